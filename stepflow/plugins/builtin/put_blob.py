"""The `put_blob` component."""

from typing import Annotated

import msgspec
from msgspec import Meta

from stepflow.errors import InvalidInputError
from stepflow.flow.identity import compact_json
from stepflow.flow.read import flow_from_json
from stepflow.plugins.builtin.component import DIALECT, Builtin, read_input
from stepflow.protocols import Host
from stepflow.records import BlobType, Json, Outcome, Succeeded, Task


class PutBlobInput(msgspec.Struct, frozen=True):
    data: Annotated[Json, Meta(description="Any value. It is stored as compact JSON.")]
    blob_type: BlobType


async def perform(task: Task, host: Host) -> Outcome:
    """The bytes keep the keys in their order; the text of type `binary` is stored as it is, not decoded."""
    given = read_input(PutBlobInput, task.input)
    if given.blob_type is BlobType.FLOW:
        if not isinstance(given.data, dict):
            raise InvalidInputError("a flow is an object - at `$.data`")
        flow_from_json(given.data)
    content = compact_json(given.data).encode()
    return Succeeded({"blob_id": await host.blobs.put(content, given.blob_type)})


PUT_BLOB = Builtin(
    name="put_blob",
    description="Stores a value and gives its content id.",
    input=PutBlobInput,
    output_schema={
        "$schema": DIALECT,
        "type": "object",
        "properties": {"blob_id": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
        "required": ["blob_id"],
    },
    perform=perform,
)
