"""Blobs that no message takes, put by HTTP at servers that have it on the same port, as the reference's has."""

import asyncio
import http.client

import msgspec

from stepflow.errors import ComponentError
from stepflow.records import BlobId, BlobType
from stepflow_grpc.address import Address

PATH = "/api/v1/blobs"
PATIENCE_S = 60.0


class Stored(msgspec.Struct, rename="camel"):
    blob_id: BlobId


async def upload(address: Address, content: bytes, type: BlobType, filename: str | None) -> BlobId:
    """Raises: ComponentError, where the server has no such door."""
    return await asyncio.to_thread(_upload, address, content, type, filename)


def _upload(address: Address, content: bytes, type: BlobType, filename: str | None) -> BlobId:
    kind = http.client.HTTPSConnection if address.is_secure else http.client.HTTPConnection
    connection = kind(address.host, address.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", PATH, *_message(content, type, filename))
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise OSError(f"HTTP status {response.status}")
        return msgspec.json.decode(body, type=Stored).blob_id
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        text = f"a blob of {len(content):,} bytes is more than {address} takes in a message, and by HTTP it took it not"
        raise ComponentError(f"{text} ({error}): store it in parts") from None
    finally:
        connection.close()


def _message(content: bytes, type: BlobType, filename: str | None) -> tuple[bytes, dict[str, str]]:
    if type is BlobType.BINARY:
        named = {} if filename is None else {"X-Blob-Filename": filename}
        return content, {"Content-Type": "application/octet-stream", **named}
    body = {"data": msgspec.Raw(content), "blobType": type.value, "filename": filename}
    return msgspec.json.encode(body), {"Content-Type": "application/json"}
