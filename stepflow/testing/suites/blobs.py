"""What every `Blobs` must do."""

import hashlib

import anyio
import pytest

from stepflow.protocols import Backend
from stepflow.records import Blob, BlobType


class BlobsSuite:
    """Give a `store` fixture: an open, empty `Backend`."""

    @pytest.mark.parametrize("content", [b"", b"{}", b"\x00\xff\xfe", "ünïcödé".encode(), b"x" * 1_000_000])
    async def test_a_blob_is_found_by_the_hash_of_its_bytes(self, store: Backend, content: bytes) -> None:
        id = await store.blobs.put(content, BlobType.BINARY, filename="a.bin")

        assert id == hashlib.sha256(content).hexdigest()
        assert await store.blobs.get(id) == Blob(id, content, BlobType.BINARY, "a.bin")

    async def test_a_blob_that_nobody_put_is_none(self, store: Backend) -> None:
        assert await store.blobs.get("0" * 64) is None

    async def test_the_first_type_wins(self, store: Backend) -> None:
        id = await store.blobs.put(b"{}", BlobType.FLOW)

        again = await store.blobs.put(b"{}", BlobType.DATA)

        assert again == id
        assert await store.blobs.get(id) == Blob(id, b"{}", BlobType.FLOW)

    async def test_the_same_bytes_may_be_put_at_the_same_moment(self, store: Backend) -> None:
        ids: list[str] = []

        async def put() -> None:
            ids.append(await store.blobs.put(b"shared"))

        async with anyio.create_task_group() as writers:
            for _ in range(20):
                writers.start_soon(put)

        assert ids == [hashlib.sha256(b"shared").hexdigest()] * 20
