"""The messages of `stepflow.worker.v1`, as a type checker sees them. Written by `make proto`."""

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

class Frame(Message):
    DESCRIPTOR: Descriptor
    json: bytes
    def __init__(
        self,
        *,
        json: bytes | None = ...,
    ) -> None: ...
