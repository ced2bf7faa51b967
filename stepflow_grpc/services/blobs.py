"""Content by its id."""

import re
from typing import Any

import msgspec

from stepflow.engine import Engine
from stepflow.flow.identity import compact_json
from stepflow.records import BlobId, BlobType
from stepflow_grpc.messages import new
from stepflow_grpc.refusals import CallError, Code, invalid
from stepflow_grpc.wire import UnfitError, from_value, to_value

_ID = re.compile(r"[0-9a-fA-F]{64}")


def blob_id_of(text: str) -> BlobId:
    """Raises: CallError, where the text is no id."""
    if _ID.fullmatch(text) is None:
        raise invalid(f"{text!r} is no blob id: it has to be 64 hexadecimal digits")
    return text.lower()


class BlobService:
    """Blobs of the engine's store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def PutBlob(self, request: Any) -> Any:
        try:
            type = BlobType(request.blob_type or "data")
        except ValueError:
            raise invalid(f"there is no blob type {request.blob_type!r}; there are data, flow and binary") from None
        filename = request.filename if request.HasField("filename") else None
        match request.WhichOneof("content"):
            case "json_data":
                content = compact_json(from_value(request.json_data)).encode()
            case "raw_data":
                content = bytes(request.raw_data)
            case _:
                raise invalid("the blob has no content: set json_data or raw_data")
        id = await self._engine.backend.blobs.put(content, type, filename=filename)
        return new("PutBlobResponse", blob_id=id, filename=filename)

    async def GetBlob(self, request: Any) -> Any:
        blob = await self._engine.get_blob(blob_id_of(request.blob_id))
        response: Any = new("GetBlobResponse", blob_type=blob.type.value, blob_id=blob.id, filename=blob.filename)
        if blob.type is BlobType.BINARY:
            response.raw_data = blob.content
            if blob.filename is not None:
                response.content_type = "application/octet-stream"
            return response
        try:
            to_value(msgspec.json.decode(blob.content), response.json_data)
        except msgspec.DecodeError:
            raise invalid(f"blob {blob.id} was stored as {blob.type.value} and is no JSON; put it as binary") from None
        except (UnfitError, RecursionError) as error:
            raise CallError(Code.FAILED_PRECONDITION, f"blob {blob.id}: {error}; put it as binary") from None
        return response
