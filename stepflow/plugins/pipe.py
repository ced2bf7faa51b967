"""What goes through the pipes between a plugin and a process that runs components: pickled records with a length."""

import pickle
import struct
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, TypeAlias

import msgspec

from stepflow.errors import ComponentError
from stepflow.plugins.failure import failed_by
from stepflow.records import BlobId, Json, Outcome, Task

_HEAD = struct.Struct("!Q")


class Settings(msgspec.Struct, frozen=True):
    """How a process begins; given on its command line as JSON."""

    path: list[str]  # where modules are found
    backend: str  # AnyIO's name of the event loop
    lifespan: str | None  # module:name


class Ready(msgspec.Struct, frozen=True):
    """The process can be called."""


class Unready(msgspec.Struct, frozen=True):
    """The process cannot be called, and ends."""

    reason: str


class Order(msgspec.Struct, frozen=True):
    """Call a component for these tasks; several only where it takes batches."""

    function: str  # module:name
    path: str
    id: str
    is_batch: bool
    tasks: tuple[Task, ...]


class Begun(msgspec.Struct, frozen=True):
    """The process has the order. Until then nothing of it was done, so that another process may have it."""


class Answer(msgspec.Struct, frozen=True):
    """One outcome a task of the order."""

    outcomes: list[Outcome]


class Report(msgspec.Struct, frozen=True):
    progress: Json


class PutBlob(msgspec.Struct, frozen=True):
    content: bytes
    type: str
    filename: str | None


class GetBlob(msgspec.Struct, frozen=True):
    id: BlobId


class RunFlow(msgspec.Struct, frozen=True):
    flow: BlobId | Mapping[str, Json]
    inputs: Sequence[Json]
    options: dict[str, Any]


Question: TypeAlias = PutBlob | GetBlob | RunFlow


class Ask(msgspec.Struct, frozen=True):
    """A question of the component to the engine, answered by the Reply of the same number."""

    number: int
    question: Question


class Reply(msgspec.Struct, frozen=True):
    number: int
    value: Any = None
    error: Exception | None = None


Frame: TypeAlias = Ready | Unready | Order | Begun | Answer | Report | Ask | Reply


def pack(frame: Frame) -> bytes:
    body = pickle.dumps(frame, protocol=pickle.HIGHEST_PROTOCOL)
    return _HEAD.pack(len(body)) + body


class Frames:
    """Makes frames of the bytes that come."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, more: bytes) -> None:
        self._bytes += more

    def next(self) -> Frame | None:
        """The next whole frame, if there is one."""
        if len(self._bytes) < _HEAD.size:
            return None
        end = _HEAD.size + _HEAD.unpack_from(self._bytes)[0]
        if len(self._bytes) < end:
            return None
        frame: Frame = pickle.loads(self._bytes[_HEAD.size : end])
        del self._bytes[:end]
        return frame


def read(source: BinaryIO) -> Frame | None:
    """The next frame, waited for; None at the end."""
    head = source.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    frame: Frame = pickle.loads(source.read(_HEAD.unpack(head)[0]))
    return frame


def portable(error: Exception) -> Exception:
    """The error itself where it survives a pipe, and otherwise one that stands for the same failure."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - another error takes its place
        again = None
    if type(again) is type(error) and str(again) == str(error):
        return error
    failed = failed_by(error)
    return ComponentError(failed.message, code=failed.code, data=failed.data)
