"""Deleting runs leaves nothing of them, however it was cut off, and holds nobody up for long."""

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stepflow.records import RunChange, RunId, RunStatus
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.stores.sqlite.blobs import TOUCH_AFTER_S
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.retention import ROWS
from stepflow.testing.suites.writes import FIRST, Ids, begin, enter, entries, record, result, write

pytestmark = pytest.mark.anyio

ENDED = RunChange(status=RunStatus.COMPLETED, ended_at=9.0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    async with SqliteBackend(tmp_path / "runs.db") as opened:
        await enter(opened, FIRST.owner)
        yield opened


async def _large(store: SqliteBackend, ids: Ids, rows: int = 3 * ROWS + 7) -> RunId:
    """A run that has ended, with so many packed rows and as many results."""
    run = await begin(store, record(ids.draw()))
    await store.journal.commit([write(run, 2 + n, ["x"], results=[result(n)]) for n in range(rows)])
    await store.journal.commit([write(run, rows + 2, ["end"], change=ENDED)])
    return run


def _kept(store: SqliteBackend) -> dict[str, int]:
    tables = ("_runs", "_entries", "_results", "_deleted")
    return {name: store.database.table(name).count for name in tables}


async def test_a_deleted_run_leaves_no_row(store: SqliteBackend) -> None:
    ids = Ids()
    other = await begin(store, record(ids.draw()))
    run = await _large(store, ids)

    deleted = await store.retention.delete(run)

    assert deleted
    assert _kept(store) == {"_runs": 1, "_entries": 1, "_results": 0, "_deleted": 0}
    assert await entries(store, other) == [(1, "begun")]


async def test_no_transaction_deletes_more_than_a_few_rows(store: SqliteBackend) -> None:
    run = await _large(store, Ids())
    conn = store.database.conn
    changed = [conn.total_changes]
    conn.set_trace_callback(lambda sql: changed.append(conn.total_changes) if sql == "COMMIT" else None)

    await store.retention.delete(run)

    conn.set_trace_callback(None)
    steps = [after - before for before, after in zip(changed, changed[1:], strict=False)]
    assert max(steps) <= 2 * ROWS + 1
    assert sum(steps) > 2 * 3 * ROWS


class _CutError(Exception):
    pass


@pytest.mark.parametrize("commits", range(6))
async def test_deleting_that_was_cut_off_is_finished_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    path, ids = tmp_path / "runs.db", Ids()
    async with SqliteBackend(path) as store:
        await enter(store, FIRST.owner)
        run = await _large(store, ids, rows=2 * ROWS + 7)
        before = _kept(store)
        left, transact = iter(range(commits)), SqliteFile._transact

        def cut(file: SqliteFile, work: Any) -> Any:
            if next(left, None) is None:
                raise _CutError
            return transact(file, work)

        with monkeypatch.context() as patch, suppress(_CutError):
            patch.setattr(SqliteFile, "_transact", cut)
            await store.retention.delete(run)

    async with SqliteBackend(path) as store:
        await enter(store, FIRST.owner)
        found = await store.runs.get(run)
        new = await begin(store, record(ids.draw()))
        first = await entries(store, new), await store.runs.results(new)
        if found is not None:
            assert (commits, _kept(store)["_results"]) == (0, before["_results"])
            await store.retention.delete(run)
        await store.retention.prune(ended_before=0.0)

        assert first == ([(1, "begun")], [])
        assert _kept(store) == {"_runs": 1, "_entries": 1, "_results": 0, "_deleted": 0}
        assert await entries(store, new) == [(1, "begun")]


async def test_what_was_used_within_the_hour_before_is_not_pruned_though_its_use_was_not_noted(tmp_path: Path) -> None:
    class Clock:
        time = 1_000_000.0

        def now(self) -> float:
            return self.time

    clock = Clock()
    async with SqliteBackend(tmp_path / "runs.db", clock=clock) as store:  # type: ignore[arg-type]
        blob = await store.blobs.put(b"used")
        clock.time += TOUCH_AFTER_S / 2
        await store.blobs.get(blob)

        at_once = await store.retention.prune_blobs(untouched_before=clock.time)
        later = await store.retention.prune_blobs(untouched_before=clock.time + TOUCH_AFTER_S)

        assert (at_once, later) == (0, 1)
        assert await store.blobs.get(blob) is None


async def test_a_reader_deletes_what_has_ended_beside_the_engine(store: SqliteBackend, tmp_path: Path) -> None:
    ids = Ids()
    run, goes_on = await _large(store, ids), await begin(store, record(ids.draw()))

    async with SqliteBackend.reader(tmp_path / "runs.db") as reader:
        deleted = [await reader.retention.delete(one) for one in (run, goes_on)]

    assert deleted == [True, False]
    assert [one.id for one in await store.runs.list()] == [goes_on]


async def test_what_is_to_be_pruned_is_found_by_an_index(store: SqliteBackend) -> None:
    asked: list[str] = []
    store.database.conn.set_trace_callback(asked.append)
    await store.retention.prune(ended_before=5.0, keep=3)
    await store.retention.prune_blobs(untouched_before=5.0)
    store.database.conn.set_trace_callback(None)

    selects = [sql for sql in asked if sql.startswith(("SELECT", "DELETE")) and "_deleted" not in sql]
    steps = [row[3] for sql in selects for row in store.database.execute(f"EXPLAIN QUERY PLAN {sql}")]

    assert len(selects) == 2
    assert [step for step in steps if step.startswith("SCAN _") and "USING" not in step] == []
    assert not any("TEMP B-TREE" in step for step in steps)
