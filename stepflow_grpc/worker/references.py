"""References to blobs in place of large values: `{"$blob": ID, "blobType": …, "size": …}`."""

import asyncio
import base64
from collections.abc import Mapping
from typing import TypeGuard

import msgspec

from stepflow.errors import BlobNotFoundError
from stepflow.protocols import Blobs
from stepflow.records import Blob, BlobId, BlobType, Json, Outcome, Succeeded

DEEPEST = 8
"""How often what references lead to is looked through for further ones."""

AT_ONCE = 16
"""Blobs that are fetched at a time."""


async def resolved(value: Json, blobs: Blobs) -> Json:
    """The value with what its references refer to in their places; of binary blobs, Base64.

    Raises:
        BlobNotFoundError: no blob has such an id.
    """
    for _ in range(DEEPEST):
        wanted = sorted(set(_ids(value)))
        if not wanted:
            break
        found = await _fetched(wanted, blobs)
        value = _replaced(value, found)
    return value


async def _fetched(ids: list[BlobId], blobs: Blobs) -> Mapping[BlobId, Json]:
    found: dict[BlobId, Json] = {}
    for first in range(0, len(ids), AT_ONCE):
        some = ids[first : first + AT_ONCE]
        fetched = await asyncio.gather(*(blobs.get(blob_id) for blob_id in some))
        for blob_id, blob in zip(some, fetched, strict=True):
            if blob is None:
                raise BlobNotFoundError(blob_id)
            found[blob_id] = _content(blob)
    return found


def _content(blob: Blob) -> Json:
    if blob.type is BlobType.BINARY:
        return base64.b64encode(blob.content).decode()
    content: Json = msgspec.json.decode(blob.content)
    return content


def _is_reference(value: Json) -> TypeGuard[dict[str, str]]:
    if not isinstance(value, dict):
        return False
    blob_id = value.get("$blob")
    return isinstance(blob_id, str) and len(blob_id) == 64


def _ids(value: Json) -> list[BlobId]:
    if _is_reference(value):
        return [value["$blob"]]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for each in inner for found in _ids(each)]


def _replaced(value: Json, found: Mapping[BlobId, Json]) -> Json:
    if _is_reference(value):
        return found[value["$blob"]]
    if isinstance(value, dict):
        return {key: _replaced(each, found) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, found) for each in value]
    return value


async def referred(outcome: Outcome, blobs: Blobs, threshold: int) -> Outcome:
    """The outcome, whose output's fields become references where their compact JSON takes more bytes."""
    if not isinstance(outcome, Succeeded) or not isinstance(outcome.output, dict):
        return outcome
    output: dict[str, Json] = {}
    for key, value in outcome.output.items():
        content = msgspec.json.encode(value)
        if len(content) > threshold and not _is_reference(value):
            value = {"$blob": await blobs.put(content), "size": len(content)}
        output[key] = value
    return Succeeded(output)
