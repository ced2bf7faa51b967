"""What every `BlobStore` must do."""

import hashlib

import anyio
import pytest

from stepflow.protocols import BlobStore
from stepflow.records import Blob, BlobType

LATE = 4e9
"""A time in seconds since the epoch that no clock of a test has reached."""


class BlobsSuite:
    """Give a `store` fixture: an open, empty `BlobStore`. Every `Backend` is one."""

    @pytest.mark.parametrize("content", [b"", b"{}", b"\x00\xff\xfe", "ünïcödé".encode(), b"x" * 1_000_000])
    async def test_a_blob_is_found_by_the_hash_of_its_bytes(self, store: BlobStore, content: bytes) -> None:
        id = await store.blobs.put(content, BlobType.BINARY, filename="a.bin")

        assert id == hashlib.sha256(content).hexdigest()
        assert await store.blobs.get(id) == Blob(id, content, BlobType.BINARY, "a.bin")

    async def test_a_blob_that_nobody_put_is_none(self, store: BlobStore) -> None:
        assert await store.blobs.get("0" * 64) is None

    async def test_the_first_type_wins(self, store: BlobStore) -> None:
        id = await store.blobs.put(b"{}", BlobType.FLOW)

        again = await store.blobs.put(b"{}", BlobType.DATA)

        assert again == id
        assert await store.blobs.get(id) == Blob(id, b"{}", BlobType.FLOW)

    async def test_the_same_bytes_may_be_put_at_the_same_moment(self, store: BlobStore) -> None:
        ids: list[str] = []

        async def put() -> None:
            ids.append(await store.blobs.put(b"shared"))

        async with anyio.create_task_group() as writers:
            for _ in range(20):
                writers.start_soon(put)

        assert ids == [hashlib.sha256(b"shared").hexdigest()] * 20

    async def test_blobs_that_nobody_touched_are_pruned_a_few_at_a_time(self, store: BlobStore) -> None:
        blobs = [await store.blobs.put(b"%d" % number) for number in range(5)]

        spared = await store.retention.prune_blobs(untouched_before=1.0)
        counts = [await store.retention.prune_blobs(untouched_before=LATE, limit=3) for _ in range(3)]

        assert spared == 0
        assert counts == [3, 2, 0]
        assert [await store.blobs.get(blob) for blob in blobs] == [None] * 5

    async def test_a_blob_may_be_put_again_after_it_was_pruned(self, store: BlobStore) -> None:
        blob = await store.blobs.put(b"again")
        await store.retention.prune_blobs(untouched_before=LATE)

        await store.blobs.put(b"again")

        found = await store.blobs.get(blob)
        assert found is not None
        assert found.content == b"again"
