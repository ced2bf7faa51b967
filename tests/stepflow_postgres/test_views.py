"""The views say the same as those of SQLite, whose tests hold them against the events."""

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from postgres_server import execute

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import InvalidInputError
from stepflow.execution.events import (
    Event,
    ItemEnded,
    RunClaimed,
    RunReleased,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    encode_events,
)
from stepflow.execution.verdict import BackoffPolicy, RetrySettings
from stepflow.records import ErrorCode, Failed, ItemResult, Json, RunChange, RunStatus, Succeeded, Verdict, Write
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.suites.writes import FIRST, Ids, enter, record, write
from stepflow_postgres.backend import PostgresBackend

pytestmark = pytest.mark.anyio

VIEWS = ("runs", "items", "attempts", "steps")
ORDER = {"runs": "run_id", "items": "item", "attempts": "item, step, attempt", "steps": "item, step"}
AWKWARD: list[Json] = [None, True, 0, 1.5, 2**60 + 1, '" and 🦆 \\u0000', [], {"a": [False, None]}, "", {}]
FLOW = {
    "name": "viewed",
    "steps": [
        {"id": "echo", "component": "/echo", "input": {"$input": "$"}},
        {
            "id": "flaky",
            "component": "/flaky",
            "input": {"$step": "echo"},
            "onError": {"action": "retry", "maxRetries": 2},
        },
        {
            "id": "defaulted",
            "component": "/refuse",
            "input": {"$step": "flaky"},
            "onError": {"action": "useDefault", "defaultValue": {"instead": None}},
        },
    ],
    "output": {"flaky": {"$step": "flaky"}, "defaulted": {"$step": "defaulted"}},
}


def components() -> Components:
    app = Components()
    calls: dict[str, int] = {}

    @app.component("/echo")
    async def echo(input: Json) -> Json:
        if input == 0:
            raise InvalidInputError("no zero")
        return input

    @app.component("/flaky")
    async def flaky(input: Json) -> Json:
        key = json.dumps(input)
        calls[key] = calls.get(key, 0) + 1
        if isinstance(input, list | dict) and calls[key] < 2 + len(input):
            raise RuntimeError(f"call {calls[key]}")
        return input

    @app.component("/refuse")
    async def refuse(input: Json) -> Json:
        raise InvalidInputError("never")

    return app


class Twofold(SqliteBackend):
    """A SQLite store whose commits and blobs go to PostgreSQL too."""

    def __init__(self, path: Path, copy: PostgresBackend) -> None:
        super().__init__(path)
        self._copy = copy
        self._commit = self._journal.commit
        self._put = self._blobs.put
        self._journal.commit = self._commit_both  # type: ignore[method-assign]
        self._blobs.put = self._put_both  # type: ignore[method-assign]

    async def _commit_both(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        for one in writes:
            await self._copy.database.write_sql(self._copy.database.sql(ENTER), {"owner": one.lease.owner})
        verdicts = await self._commit(writes)
        assert list(await self._copy.journal.commit(writes)) == list(verdicts)
        return verdicts

    async def _put_both(self, content: bytes, *args: Any, **named: Any) -> str:
        await self._copy.blobs.put(content, *args, **named)
        return await self._put(content, *args, **named)


ENTER = """
INSERT INTO stepflow._engines (owner, name, group_name, place, started_at, ttl_s, expires_at)
VALUES (%(owner)s, 'engine', 'default', '', 0, 60, 'infinity') ON CONFLICT DO NOTHING
"""


@pytest.fixture
async def store(backend: PostgresBackend) -> AsyncIterator[PostgresBackend]:
    async with backend:
        await enter(backend, "engine-1")
        yield backend


async def in_postgres(store: PostgresBackend, view: str, run_id: str) -> list[dict[str, Any]]:
    async with store.database.connection() as connection:
        sql = f"SELECT * FROM stepflow.{view} WHERE run_id = %s ORDER BY {ORDER[view]}"
        cursor = await connection.execute(store.database.sql(sql), (run_id,))
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


def in_sqlite(path: Path, view: str, run_id: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as conn:
        conn.row_factory = sqlite3.Row
        rows = conn.execute(f"SELECT * FROM {view} WHERE run_id = ? ORDER BY {ORDER[view]}", [run_id])
        return [dict(row) for row in rows]


def unwritten(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without what depends on the instant of their commit."""
    return [{name: value for name, value in row.items() if name != "recording_ms"} for row in rows]


async def tell(store: PostgresBackend | SqliteBackend, ids: Ids, *events: Event, **what: Any) -> str:
    """A run of which these events were written in one row."""
    new, payload = record(ids.draw()), encode_events(events)
    what |= {"new": new, "payload": payload, "count": len(events), "max_item": 0}
    await store.journal.commit([Write(run_id=new.id, lease=FIRST, first=1, **what)])
    return new.id


@pytest.mark.parametrize("view", VIEWS)
async def test_a_view_shows_of_a_run_what_sqlite_shows(tmp_path: Path, store: PostgresBackend, view: str):
    retry = RetrySettings(backoff=BackoffPolicy(type="constant", delay_ms=5))
    async with Engine(components(), store=Twofold(tmp_path / "runs.db", store), retry=retry) as engine:
        run = await engine.submit(FLOW, AWKWARD, key="monday")
        await run.wait()

    shown = await in_postgres(store, view, run.id)

    expected = in_sqlite(tmp_path / "runs.db", view, run.id)
    assert len(expected) >= (1 if view == "runs" else len(AWKWARD))
    assert [list(row) for row in shown] == [list(row) for row in expected]
    assert unwritten(shown) == unwritten(expected)
    if view in ("attempts", "steps"):
        assert all((row["recording_ms"] is None) == (row["ended_ms"] is None) for row in shown)


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.CANCELLED])
@pytest.mark.parametrize(
    "handover", [(), (RunReleased(5),), (RunClaimed("engine-2", "engine", 5), StepStarted(0, 0, 2, 6))], ids=len
)
async def test_an_attempt_without_an_end_is_told_as_by_sqlite(
    tmp_path: Path, store: PostgresBackend, status: RunStatus, handover: tuple[Event, ...]
):
    events = [StepStarted(0, 0, 1, 1), StepStarted(0, 1, 1, 2), StepSucceeded(0, 1, {}, 3), *handover]
    change = RunChange(status=status)
    async with SqliteBackend(tmp_path / "runs.db") as sqlite:
        await enter(sqlite, "engine-1")
        run = await tell(sqlite, Ids(), *events, change=change)

    assert await tell(store, Ids(), *events, change=change) == run
    for view in ("attempts", "steps"):
        assert unwritten(await in_postgres(store, view, run)) == unwritten(in_sqlite(tmp_path / "runs.db", view, run))


async def test_a_nul_stays_in_values_and_is_marked_in_messages(store: PostgresBackend, ids: Ids):
    nul, failure = "a\0b \\u0000", Failed(ErrorCode.COMPONENT_FAILED, "broke at \0, not at \\u0000", data={"\0": "\0"})
    run = await tell(
        store,
        ids,
        StepStarted(0, 0, 1, 1),
        StepRetried(0, 0, 1, failure, 0.5, 2),
        StepStarted(0, 0, 2, 600),
        StepSucceeded(0, 0, {"\0": nul}, 700),
        StepStarted(0, 1, 1, 700),
        StepFailed(0, 1, failure, 800),
        StepStarted(0, 2, 1, 800),
        StepDefaulted(0, 2, nul, failure, 900),
        ItemEnded(0, Succeeded(nul), 900),
        results=[ItemResult(0, Succeeded(nul)), ItemResult(1, failure)],
        change=RunChange(error=failure),
    )
    inputs = write(run, 100, [["in", 0, [nul, {"\0": nul}]]], items=(0, 1), has_inputs=True)
    await store.journal.commit([inputs])

    items = await in_postgres(store, "items", run)
    attempts = await in_postgres(store, "attempts", run)
    [shown] = await in_postgres(store, "runs", run)

    marked = "broke at \ufffd, not at \\u0000"
    assert [json.loads(row["input"]) for row in items] == [nul, {"\0": nul}]
    assert [row["output"] and json.loads(row["output"]) for row in items] == [nul, None]
    assert [row["error_message"] for row in items] == [None, marked]
    assert [row["output"] and json.loads(row["output"]) for row in attempts] == [None, {"\0": nul}, None, nul]
    assert [row["error_message"] for row in attempts] == [marked, None, marked, marked]
    assert [row["ready_ms"] for row in attempts] == [None, 98, 0, 0]
    assert shown["error_message"] == marked


async def test_time_in_a_queue_is_no_time_at_work(store: PostgresBackend, ids: Ids) -> None:
    late = Failed(ErrorCode.TIMEOUT, "late")
    run = await tell(
        store,
        ids,
        *(StepStarted(0, step, 1, 10) for step in range(3)),
        StepRetried(0, 0, 1, late, 0.0, 110, queued=70),
        StepStarted(0, 0, 2, 120),
        StepSucceeded(0, 0, 1, 220, queued=30),
        StepFailed(0, 1, late, 320, queued=300),
        StepDefaulted(0, 2, 1, late, 410, queued=500),  # clocks of two machines
    )

    attempts = await in_postgres(store, "attempts", run)
    steps = await in_postgres(store, "steps", run)

    assert sorted((row["step"], row["attempt"], row["queued_ms"], row["running_ms"]) for row in attempts) == [
        (0, 1, 70, 30),
        (0, 2, 30, 70),
        (1, 1, 300, 10),
        (2, 1, 500, 0),
    ]
    assert sorted((row["step"], row["queued_ms"], row["running_ms"]) for row in steps) == [
        (0, 100, 100),
        (1, 300, 10),
        (2, 500, 0),
    ]


@pytest.mark.parametrize("view", VIEWS)
async def test_a_view_of_one_run_reads_only_its_rows(store: PostgresBackend, ids: Ids, view: str):
    for _ in range(300):
        await tell(store, ids, StepStarted(0, 0, 1, 1), StepSucceeded(0, 0, 1, 2))
    run = await tell(store, ids, StepStarted(0, 0, 1, 1), StepSucceeded(0, 0, 1, 2))
    url, schema = store.database.location.conninfo, store.database.schema

    for _ in range(5):  # the server's own vacuum may come between, with what it saw before
        execute(url, f"VACUUM (ANALYZE) {schema}._runs, {schema}._entries, {schema}._results")
        plan = execute(url, f"EXPLAIN SELECT * FROM {schema}.{view} WHERE run_id = '{run}'")
        told = "\n".join(str(line) for (line,) in plan)
        if "_runs_id_key" in told:
            break

    assert "Seq Scan on _entries" not in told
    assert "Seq Scan on _runs" not in told
    assert "_runs_id_key" in told


@pytest.fixture
def ids() -> Ids:
    return Ids()
