"""Blobs kept in another store than the runs: used by steps, pruned with the runs, and not needed to go on."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import StoreError
from stepflow.protocols import Backend
from stepflow.records import BlobType, RunStatus, blob_id
from stepflow.stores.apart import BackendWithBlobs
from stepflow.stores.files import FileBlobs
from stepflow.stores.memory import MemoryBackend
from stepflow.stores.open import open_store
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.stores.whereabouts import MARK
from stepflow.testing.suites import StoreSuite

pytestmark = pytest.mark.anyio

LATE = 4e9
PUT = {"blob_type": "data", "data": {"$input": "$"}}
FLOW = {"steps": [{"id": "s", "component": "/builtin/put_blob", "input": PUT}], "output": {"$step": "s"}}


@pytest.mark.slow
class TestMemoryWithFiles(StoreSuite):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        return open_store(None, blobs=tmp_path / "blobs")


def files(directory: Path) -> list[str]:
    """The blobs there, but for the one that says which store this is."""
    return sorted(path.stem for path in directory.rglob("*.blob") if path.stem != blob_id(MARK))


async def test_what_steps_put_stands_in_the_blob_store_and_flows_beside_the_runs(tmp_path: Path) -> None:
    async with Engine(store=tmp_path / "runs.db", blobs=tmp_path / "blobs") as engine:
        run = await engine.submit(FLOW, [{"large": "x" * 10_000}])
        put = (await run.result(0)).output["blob_id"] if (await run.wait()).succeeded else None
        blob = await engine.get_blob(put)

    async with SqliteBackend(tmp_path / "runs.db") as alone:
        assert await alone.blobs.get(put) is None
        assert await alone.blobs.get(run.flow_id) is not None
    assert files(tmp_path / "blobs") == [put]
    assert (len(blob.content), blob.type) == (10_012, BlobType.DATA)


async def test_blobs_from_before_there_was_another_store_are_found(tmp_path: Path) -> None:
    async with Engine(store=tmp_path / "runs.db") as engine:
        before = await engine.put_blob(b"before")

    async with Engine(store=tmp_path / "runs.db", blobs=f"sqlite:{tmp_path / 'blobs.db'}") as engine:
        after = await engine.put_blob(b"after")
        found = [(await engine.get_blob(id)).content for id in (before, after)]

    assert found == [b"before", b"after"]
    async with SqliteBackend(tmp_path / "blobs.db") as blobs:
        assert await blobs.blobs.get(after) is not None


async def test_a_run_goes_on_after_its_engine_though_its_blobs_are_elsewhere(tmp_path: Path) -> None:
    app, open_now, begun = Components(), anyio.Event(), anyio.Event()

    @app.component("/read")
    async def read(id: str, ctx: Context) -> str:
        begun.set()
        await open_now.wait()
        return str(await ctx.get_blob(id))

    reads = {"id": "r", "component": "/read", "input": {"$step": "s", "path": "blob_id"}}
    flow = {"steps": [*FLOW["steps"], reads], "output": {"$step": "r"}}
    where = {"store": tmp_path / "runs.db", "blobs": tmp_path / "blobs"}
    async with Engine(app, **where) as engine:
        run = await engine.submit(flow, ["kept"])
        await begun.wait()

    open_now.set()
    async with Engine(app, **where) as engine:
        again = await engine.get_run(run.id)

        assert (await again.wait()).status is RunStatus.COMPLETED
        assert (await again.result(0)).output == "kept"


async def test_retention_deletes_blobs_of_both_stores(tmp_path: Path) -> None:
    async with Engine(store=tmp_path / "runs.db", blobs=tmp_path / "blobs") as engine:
        run = await engine.submit(FLOW, ["old", "older", "oldest"])
        await run.wait()
        kept = files(tmp_path / "blobs")
        retention = engine.backend.retention
        counts = [await retention.prune_blobs(untouched_before=LATE, limit=2) for _ in range(4)]

        assert len(kept) == 3
        assert counts == [2, 2, 2, 0]  # with the flow, and the notes of where the blobs are
        assert files(tmp_path / "blobs") == []
        assert await engine.backend.blobs.get(run.flow_id) is None


def test_runs_that_are_kept_have_no_blobs_that_are_not(tmp_path: Path) -> None:
    for blobs in (FileBlobs(), MemoryBackend(), "memory:", "file:"):
        with pytest.raises(StoreError, match="name a directory or a database for the blobs"):
            Engine(store=tmp_path / "runs.db", blobs=blobs)

    assert isinstance(Engine(blobs="memory:").backend, BackendWithBlobs)


async def test_a_blob_store_that_can_not_be_opened_leaves_the_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("")

    with pytest.raises(StoreError, match="can be made and written to"):
        async with Engine(store=tmp_path / "runs.db", blobs=tmp_path / "blobs"):
            pass

    assert not (tmp_path / "runs.db").exists()


async def test_an_engine_whose_blobs_are_no_longer_where_they_were_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def warnings(blobs: Path | None) -> list[str]:
        caplog.clear()
        async with Engine(store=tmp_path / "runs.db", blobs=blobs):
            return [message for message in caplog.messages if "unless its files are brought along" in message]

    first, second = tmp_path / "first", tmp_path / "second"
    assert [await warnings(blobs) for blobs in (None, first, first)] == [[], [], []]
    [moved] = await warnings(second)
    [beside] = await warnings(None)

    assert f"are in {second} (" in moved
    assert f"were in {first} (" in moved
    assert "are beside the runs now" in beside
    assert await warnings(second) == []


async def test_a_directory_of_blobs_is_the_same_wherever_it_is_moved_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Engine(store=tmp_path / "runs.db", blobs=tmp_path / "blobs") as engine:
        id = await engine.put_blob(b"content")
    (tmp_path / "blobs").rename(tmp_path / "moved")

    async with Engine(store=tmp_path / "runs.db", blobs=tmp_path / "moved") as engine:
        assert (await engine.get_blob(id)).content == b"content"
    assert caplog.messages == []


async def test_retention_leaves_what_says_where_the_blobs_are(tmp_path: Path) -> None:
    where = {"store": tmp_path / "runs.db", "blobs": tmp_path / "blobs"}
    async with Engine(**where) as engine:
        await engine.put_blob(b"old")
    for path in (tmp_path / "blobs").rglob("*.blob"):
        os.utime(path, (0, 0))
    with closing(sqlite3.connect(tmp_path / "runs.db")) as file, file:
        file.execute("UPDATE _blobs SET touched_at = 0")

    async with open_store(where["store"], blobs=where["blobs"]) as store:
        counts = [await store.retention.prune_blobs(untouched_before=1e9) for _ in range(2)]

        assert counts == [1, 0]
        assert files(tmp_path / "blobs") == []
        assert await store.blobs.get(blob_id(MARK)) is not None
