"""The `get_blob` component."""

from typing import Annotated

import msgspec
from msgspec import Meta

from stepflow.errors import BlobNotFoundError, InvalidInputError
from stepflow.plugins.builtin.component import DIALECT, Builtin, read_input, read_json
from stepflow.protocols import Host
from stepflow.records import Outcome, Succeeded, Task


class GetBlobInput(msgspec.Struct, frozen=True):
    blob_id: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$", max_length=64, description="64 hexadecimal digits.")]


async def perform(task: Task, host: Host) -> Outcome:
    blob_id = read_input(GetBlobInput, task.input).blob_id.lower()
    blob = await host.blobs.get(blob_id)
    if blob is None:
        raise BlobNotFoundError(blob_id)
    try:
        return Succeeded({"data": read_json(blob.content)})
    except ValueError as error:
        kind, size = blob.type.value, len(blob.content)
        raise InvalidInputError(
            f"blob {blob_id} ({kind}, {size} bytes) cannot be read as JSON ({error}); get_blob gives JSON only"
        ) from None


GET_BLOB = Builtin(
    name="get_blob",
    description="Reads a stored value by its content id.",
    input=GetBlobInput,
    output_schema={"$schema": DIALECT, "type": "object", "properties": {"data": {}}, "required": ["data"]},
    perform=perform,
)
