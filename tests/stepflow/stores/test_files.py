"""Blobs as files: whole or not at all, found by whoever has the directory, and deleted once nobody uses them."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from stepflow.errors import StoreError
from stepflow.protocols import BlobStore
from stepflow.records import Blob, BlobType, blob_id
from stepflow.stores.files import TOUCH_AFTER_S, FileBlobs
from stepflow.testing.suites import BlobsSuite

pytestmark = pytest.mark.anyio

LATE = 4e9


class TestFileBlobs(BlobsSuite):
    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[BlobStore]:
        async with FileBlobs(tmp_path / "not" / "there") as store:
            yield store


async def test_a_file_holds_the_content_then_what_it_is_then_its_length(tmp_path: Path) -> None:
    async with FileBlobs(tmp_path) as store:
        id = await store.put(b"\x00content", BlobType.BINARY, filename="a.bin")

    stored = (tmp_path / id[:2] / f"{id}.blob").read_bytes()

    assert stored == b'\x00content{"blob_type":"binary","filename":"a.bin"}' + (8).to_bytes(8, "little")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{id}.blob"]


async def test_what_another_program_wrote_is_read(tmp_path: Path) -> None:
    id = blob_id(b"{}")
    (tmp_path / id[:2]).mkdir()
    (tmp_path / id[:2] / f"{id}.blob").write_bytes(b'{}{"blob_type":"flow"}' + (2).to_bytes(8, "little"))

    async with FileBlobs(tmp_path) as store:
        assert await store.get(id) == Blob(id, b"{}", BlobType.FLOW)


async def test_what_one_process_puts_another_finds(tmp_path: Path) -> None:
    async with FileBlobs(tmp_path) as one, FileBlobs(tmp_path) as other:
        id = await one.put(b"shared", BlobType.BINARY)
        await other.put(b"shared", BlobType.DATA)

        assert await other.get(id) == Blob(id, b"shared", BlobType.BINARY)


@pytest.mark.parametrize("left", [b"", b"short", b"Content{}" + (7).to_bytes(8, "little"), b"content" + bytes(8)])
async def test_a_file_that_was_damaged_is_an_error(tmp_path: Path, left: bytes) -> None:
    async with FileBlobs(tmp_path) as store:
        id = await store.put(b"content")
        (tmp_path / id[:2] / f"{id}.blob").write_bytes(left)

        with pytest.raises(StoreError, match="not what was written"):
            await store.get(id)


@pytest.mark.parametrize("id", ["", "..", "../" * 21 + "x", "A" * 64, "0" * 63 + "/"])
async def test_what_is_no_id_is_no_file(tmp_path: Path, id: str) -> None:
    async with FileBlobs(tmp_path) as store:
        assert await store.get(id) is None


async def test_a_use_is_noted_at_most_hourly(tmp_path: Path) -> None:
    async with FileBlobs(tmp_path) as store:
        ids = [await store.put(content) for content in (b"put", b"read", b"left")]
        paths = [tmp_path / id[:2] / f"{id}.blob" for id in ids]
        for path in paths:
            os.utime(path, (1.0, 1.0))
        await store.put(b"put")
        await store.get(ids[1])
        used = [path.stat().st_mtime for path in paths]
        noted = used[0]
        await store.put(b"put")

        assert paths[0].stat().st_mtime == noted
        assert used[2] == 1.0
        assert await store.prune_blobs(untouched_before=noted) == 1
        assert [path.exists() for path in paths] == [True, True, False]
        assert await store.prune_blobs(untouched_before=noted + TOUCH_AFTER_S + 60) == 2


async def test_what_a_write_that_was_cut_off_left_is_deleted_and_not_counted(tmp_path: Path) -> None:
    async with FileBlobs(tmp_path) as store:
        id = await store.put(b"whole")
        folder = tmp_path / id[:2]
        for name in (f"{id}x.tmp", "cut.gone", "now.tmp"):
            (folder / name).write_bytes(b"half")
        for name in (f"{id}x.tmp", "cut.gone"):
            os.utime(folder / name, (1.0, 1.0))
        (tmp_path / "README").write_text("not a blob")

        assert await store.prune_blobs(untouched_before=LATE) == 1
        left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
        assert sorted(left) == ["README", "now.tmp"], "what is being written at this moment stays"


async def test_without_a_directory_blobs_go_with_the_store() -> None:
    store = FileBlobs()
    async with store:
        id = await store.put(b"content")
        assert await store.get(id) is not None
        directory = store._root

    assert not directory.exists()
    assert not store.is_durable
    with pytest.raises(StoreError, match="not open"):
        await store.get(id)


async def test_what_can_not_be_written_says_why(tmp_path: Path) -> None:
    async with FileBlobs(tmp_path) as store:
        (tmp_path / blob_id(b"content")[:2]).write_text("in the way")

        with pytest.raises(StoreError, match="written to by the user"):
            await store.put(b"content")


async def test_a_file_where_the_directory_should_be_says_so(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("")

    with pytest.raises(StoreError, match="blobs: File exists; see that the directory can be made"):
        async with FileBlobs(tmp_path / "blobs"):
            pass


async def test_many_are_pruned_a_few_at_a_time_while_others_come(tmp_path: Path) -> None:
    async with FileBlobs(tmp_path) as store:
        for number in range(50):
            await store.put(b"old %d" % number)
        counts: list[int] = []

        async def prune() -> None:
            while (count := await store.prune_blobs(untouched_before=LATE, limit=7)) or not counts:
                counts.append(count)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(prune)
            tasks.start_soon(store.put, b"new")
        rest = await store.prune_blobs(untouched_before=LATE)

        assert sum(counts) + rest == 51
        assert max(counts) == 7
