"""The views say what the events say."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import InvalidInputError
from stepflow.execution.events import (
    Event,
    ItemEnded,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    decode_events,
    encode_events,
)
from stepflow.execution.verdict import BackoffPolicy, RetrySettings
from stepflow.records import Json, Succeeded
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.suites.writes import Ids, record, write

pytestmark = pytest.mark.anyio

AWKWARD: list[Json] = [None, True, 0, 1.5, 2**60 + 1, 'nul \0 and " and 🦆', [], {"a": [False, None]}]

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
ENDS = {StepSucceeded: "succeeded", StepFailed: "failed", StepDefaulted: "defaulted", StepRetried: "retried"}


def _components() -> Components:
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


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    async with SqliteBackend(tmp_path / "runs.db") as opened:
        yield opened


def _rows(store: SqliteBackend, view: str, run_id: str, order: str = "item") -> list[dict[str, Any]]:
    return list(store.database.query(f"SELECT * FROM {view} WHERE run_id = ? ORDER BY {order}", [run_id]))


async def _events(store: SqliteBackend, run_id: str) -> list[Event]:
    return [event for row in await store.journal.history(run_id) for event in decode_events(row.payload)]


async def _run(path: Path) -> str:
    retry = RetrySettings(backoff=BackoffPolicy(type="constant", delay_ms=5))
    async with Engine(_components(), store=SqliteBackend(path), retry=retry) as engine:
        run = await engine.submit(FLOW, AWKWARD)
        await run.wait()
        return run.id


def _attempts(events: list[Event]) -> list[dict[str, Any]]:
    """What the view of attempts must show, but for the times that were waited."""
    open: dict[tuple[int, int], StepStarted] = {}
    found = []
    for event in events:
        if isinstance(event, StepStarted):
            open[event.item, event.step] = event
        elif isinstance(event, StepSucceeded | StepFailed | StepDefaulted | StepRetried):
            started = open.pop((event.item, event.step))
            error = getattr(event, "error", None)
            found.append(
                {
                    "item": event.item,
                    "step": event.step,
                    "step_id": FLOW["steps"][event.step]["id"],  # type: ignore[index]
                    "attempt": started.attempt,
                    "status": ENDS[type(event)],
                    "started_ms": started.at,
                    "ended_ms": event.at,
                    "running_ms": event.at - started.at,
                    "output": json.dumps(event.output) if hasattr(event, "output") else None,
                    "error_code": error and error.code.value,
                    "error_message": error and error.message,
                    "retry_delay_s": getattr(event, "delay_s", None),
                }
            )
    return sorted(found, key=lambda row: (row["item"], row["step"], row["attempt"]))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    output = row["output"]
    return {**row, "output": None if output is None else json.dumps(json.loads(output))}


async def test_attempts_are_those_of_the_events(tmp_path: Path) -> None:
    run_id = await _run(tmp_path / "runs.db")

    async with SqliteBackend(tmp_path / "runs.db") as store:
        events = await _events(store, run_id)
        shown = _rows(store, "attempts", run_id, "item, step, attempt")

    expected = _attempts(events)
    assert {row["status"] for row in expected} == set(ENDS.values())
    assert [{name: row[name] for name in expected[0]} for row in map(_plain, shown)] == expected
    assert all(row["ready_ms"] is None or row["ready_ms"] >= 0 for row in shown)
    assert all((row["recording_ms"] is None) == (row["ended_ms"] is None) for row in shown)


async def test_steps_sum_up_their_attempts(tmp_path: Path) -> None:
    run_id = await _run(tmp_path / "runs.db")

    async with SqliteBackend(tmp_path / "runs.db") as store:
        attempts = _rows(store, "attempts", run_id, "item, step, attempt")
        steps = _rows(store, "steps", run_id, "item, step")

    by_step: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in attempts:
        by_step.setdefault((row["item"], row["step"]), []).append(row)
    assert [(row["item"], row["step"]) for row in steps] == list(by_step)
    for row, of_step in zip(steps, by_step.values(), strict=True):
        last = of_step[-1]
        same = ("status", "step_id", "started_ms", "ended_ms", "output", "error_code", "error_message")
        assert {name: row[name] for name in same} == {name: last[name] for name in same}
        assert row["attempts"] == len(of_step)
        assert row["running_ms"] == sum(one["running_ms"] for one in of_step)


async def test_items_have_their_inputs_and_outcomes(tmp_path: Path) -> None:
    run_id = await _run(tmp_path / "runs.db")

    async with SqliteBackend(tmp_path / "runs.db") as store:
        events = await _events(store, run_id)
        shown = _rows(store, "items", run_id)
        order = [row["item"] for row in _rows(store, "items", run_id, "place")]

    ended = [event for event in events if isinstance(event, ItemEnded)]
    outcomes = {event.item: event.outcome for event in ended}
    whole = [value.partition("\0")[0] if isinstance(value, str) else value for value in AWKWARD]
    assert [json.loads(row["input"]) for row in shown] == whole
    assert order == [event.item for event in ended]
    for row in shown:
        outcome = outcomes[row["item"]]
        if isinstance(outcome, Succeeded):
            assert (row["status"], json.loads(row["output"]), row["error_code"]) == ("succeeded", outcome.output, None)
        else:
            assert (row["status"], row["output"]) == ("failed", None)
            assert (row["error_code"], row["error_message"]) == (outcome.code.value, outcome.message)


async def test_runs_show_what_the_record_says(tmp_path: Path) -> None:
    run_id = await _run(tmp_path / "runs.db")

    async with SqliteBackend(tmp_path / "runs.db") as store:
        [shown] = _rows(store, "runs", run_id, "run_id")
        stored = await store.runs.get(run_id)

    assert stored is not None
    for name in ("root_id", "flow_id", "flow_name", "status", "created_at", "ended_at", "total", "succeeded", "failed"):
        assert shown[name] == getattr(stored, name)
    assert shown["duration_s"] == pytest.approx((stored.ended_at or 0.0) - stored.created_at)
    assert (shown["error_code"], shown["parent_id"]) == (None, None)


async def test_an_attempt_without_an_end_is_running_lost_or_cancelled(store: SqliteBackend) -> None:
    run = Ids().draw()
    started = [StepStarted(0, 0, 1, 5), StepStarted(0, 0, 2, 9), StepStarted(0, 1, 1, 9)]
    entries = json.loads(encode_events(started))
    await store.journal.commit([write(run, 1, entries, items=(0, 0), new=record(run))])

    open = [(row["step"], row["attempt"], row["status"]) for row in _rows(store, "attempts", run, "step, attempt")]
    store.database.execute("UPDATE _runs SET status = 'cancelled'")
    ended = [row["status"] for row in _rows(store, "attempts", run, "step, attempt")]

    assert open == [(0, 1, "lost"), (0, 2, "running"), (1, 1, "running")]
    assert ended == ["lost", "cancelled", "cancelled"]


async def test_waiting_counts_from_the_end_of_the_step_before_and_of_the_delay(store: SqliteBackend) -> None:
    run = Ids().draw()
    failed = {"outcome": "failed", "code": "COMPONENT_FAILED", "message": "no"}
    entries: list[Json] = [
        ["go", 0, 0, 1, 10],
        ["ok", 0, 0, "x", 30],
        ["go", 0, 1, 1, 42],
        ["again", 0, 1, 1, failed, 0.1, 50],
        ["go", 0, 1, 2, 155],
        ["ok", 0, 1, "y", 160],
    ]
    await store.journal.commit([write(run, 1, entries, items=(0, 0), new=record(run))])

    attempts = _rows(store, "attempts", run, "step, attempt")
    [_, second] = _rows(store, "steps", run, "step")

    assert [(row["ready_ms"], row["running_ms"]) for row in attempts] == [(None, 20), (12, 8), (5, 5)]
    assert (second["ready_ms"], second["running_ms"], second["attempts"]) == (17, 13, 2)


async def test_a_view_of_one_run_reads_only_its_rows(store: SqliteBackend) -> None:
    for view in ("runs", "items", "attempts", "steps"):
        plan = store.database.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {view} WHERE run_id = 'r'").fetchall()
        steps = [row[3] for row in plan]

        assert any("INDEX _runs_by_id (id=?)" in step for step in steps)
        assert not any(step.startswith(("SCAN runs", "SCAN entries")) for step in steps)


async def test_the_reference_tells_of_every_column(store: SqliteBackend) -> None:
    reference = Path(__file__).parents[3] / "docs" / "reference" / "sqlite.md"
    _, *sections = reference.read_text(encoding="utf-8").split("\n### ")
    told = {section.split("\n")[0]: set(re.findall(r"`([a-z_]+)`", section)) for section in sections}

    views = {view.name: {column.name for column in view.columns} for view in store.database.views}

    assert told.keys() == views.keys()
    assert {name: sorted(columns - told[name]) for name, columns in views.items()} == dict.fromkeys(views, [])


@pytest.mark.parametrize(
    ("following", "statuses"),
    [
        ([], ["running"]),
        ([["wait", 0, 0, "a worker of gpu", 20], ["pause", 30], ["resume", 40]], ["running"]),
        ([["release", 20]], ["lost"]),
        ([["claim", "next", "press", 20]], ["lost"]),
        ([["release", 20], ["claim", "next", "press", 30], ["go", 0, 0, 2, 40]], ["lost", "running"]),
        ([["claim", "next", "press", 20], ["go", 0, 0, 2, 40], ["ok", 0, 0, 1, 50]], ["lost", "succeeded"]),
        ([["claim", "next", "press", 20], ["ok", 0, 0, 1, 50]], ["succeeded"]),
        ([["ok", 0, 0, 1, 20], ["claim", "next", "press", 30]], ["succeeded"]),
    ],
)
async def test_an_attempt_is_lost_where_its_engine_went_before_it_ended(
    store: SqliteBackend, following: list[Json], statuses: list[str]
) -> None:
    run = Ids().draw()
    await store.journal.commit([write(run, 1, [["go", 0, 0, 1, 10]], items=(0, 0), new=record(run))])

    for position, event in enumerate(following, 2):
        items = (0, 0) if event[0] in ("go", "ok", "wait") else (-1, -1)  # type: ignore[index]
        await store.journal.commit([write(run, position, [event], items=items)])

    attempts = _rows(store, "attempts", run, "attempt")
    [step] = _rows(store, "steps", run)
    assert [row["status"] for row in attempts] == statuses
    assert (step["status"], step["attempts"]) == (statuses[-1], len(statuses))
    assert [row["running_ms"] is None for row in attempts] == [status in ("lost", "running") for status in statuses]


async def test_recording_counts_from_the_outcome_to_the_commit(tmp_path: Path) -> None:
    class Clock:
        def now(self) -> float:
            return 1_767_225_600.0 + 0.5  # half a second after the run began

    async with SqliteBackend(tmp_path / "runs.db", clock=Clock()) as store:  # type: ignore[arg-type]
        run = Ids().draw()
        entries: list[Json] = [["go", 0, 0, 1, 10], ["ok", 0, 0, 1, 420], ["go", 0, 1, 1, 430], ["ok", 0, 1, 1, 600]]
        await store.journal.commit([write(run, 1, entries, items=(0, 0), new=record(run))])

        shown = [(row["queued_ms"], row["running_ms"], row["recording_ms"]) for row in _rows(store, "attempts", run)]
        store.database.execute("UPDATE _entries SET written_at = NULL")
        older = [row["recording_ms"] for row in _rows(store, "steps", run)]

    assert shown == [(0, 410, 80), (0, 170, 0)]
    assert older == [None, None]


async def test_time_in_a_queue_is_no_time_at_work(store: SqliteBackend) -> None:
    run = Ids().draw()
    failed: Json = {"outcome": "failed", "code": "TIMEOUT", "message": "late"}
    events: list[Json] = [
        *(["go", 0, step, 1, 10] for step in range(3)),
        ["again", 0, 0, 1, failed, 0.0, 110, 70],
        ["go", 0, 0, 2, 120],
        ["ok", 0, 0, 1, 220, 30],
        ["fail", 0, 1, failed, 320, 300],
        ["default", 0, 2, 1, failed, 410, 500],  # clocks of two machines
    ]
    await store.journal.commit([write(run, 1, events, items=(0, 0), new=record(run))])

    attempts = _rows(store, "attempts", run, "step, attempt")
    steps = _rows(store, "steps", run, "step")

    assert [(row["queued_ms"], row["running_ms"]) for row in attempts] == [(70, 30), (30, 70), (300, 10), (500, 0)]
    assert [(row["queued_ms"], row["running_ms"]) for row in steps] == [(100, 100), (300, 10), (500, 0)]


async def test_a_run_shows_who_has_it_and_where_it_is_from(store: SqliteBackend) -> None:
    ids = Ids()
    first, again = ids.draw(), ids.draw()
    await store.journal.commit([write(first, 1, ["begun"], new=record(first))])
    await store.journal.commit(
        [write(again, 1, ["begun"], new=structs.replace(record(again), retry_of=first, group="night"))]
    )
    await store.owners.claim("second", root_id=first)

    shown = {
        row["run_id"]: tuple(row[name] for name in ("owner", "claims", "retry_of", "group_name"))
        for row in store.database.query("SELECT * FROM runs")
    }

    assert shown == {first: ("second", 1, None, "default"), again: ("engine-1", 0, first, "night")}
