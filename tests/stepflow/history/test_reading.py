"""Histories of journals that were written by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import RunNotFoundError
from stepflow.execution.events import (
    Checkpointed,
    ItemEnded,
    OpenItemSnapshot,
    RunClaimed,
    RunEnded,
    RunPaused,
    RunReleased,
    RunResumed,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    StepWaiting,
    SubRunLinked,
)
from stepflow.history.reading import read_history
from stepflow.history.records import History, Span
from stepflow.history.tally import Tally
from stepflow.protocols import Backend
from stepflow.records import ErrorCode, Failed, ParentLink, RunStatus, Succeeded
from stepflow.stores.memory import MemoryBackend

pytestmark = pytest.mark.anyio

TIMEOUT = Failed(ErrorCode.TIMEOUT, "no answer within 1 s")
RUN = "019aae00-0000-7000-8000-000000000001"
BEGAN = 1_700_000_000.0
BROKEN = Failed(ErrorCode.COMPONENT_FAILED, "it broke")

FLOW = {
    "name": "mail",
    "steps": [
        {"id": "load", "component": "/load", "input": {"$input": "$"}},
        {"id": "rank", "component": "/ml/rank", "input": {"$step": "load"}},
    ],
    "output": {"$step": "rank"},
}

Hand = Callable[..., Any]

in_every_store = pytest.mark.parametrize("backend", ["memory", "sqlite"], indirect=True)


def ran(item: int, step: int, start: int, end: int) -> list[Any]:
    return [StepStarted(item, step, 1, start), StepSucceeded(item, step, item, end)]


@in_every_store
async def test_steps_are_counted_by_what_became_of_them(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(
            *ran(0, 0, 0, 10),
            *ran(1, 0, 0, 30),
            StepStarted(0, 1, 1, 12),
            StepRetried(0, 1, 1, TIMEOUT, 0.5, 40),
            StepStarted(0, 1, 2, 545),
            StepSucceeded(0, 1, "x", 600),
            ItemEnded(0, Succeeded("x"), 600),
            StepStarted(1, 1, 1, 31),
            StepDefaulted(1, 1, None, BROKEN, 32),
            ItemEnded(1, Succeeded(None), 32),
            StepStarted(2, 0, 1, 40),
            StepFailed(2, 0, BROKEN, 50),
            ItemEnded(2, BROKEN, 50),
            RunEnded(RunStatus.FAILED, 600),
            inputs=3,
        )

        history = await read_history(backend, RUN)

    load, rank = history.steps
    assert (load.id, load.component, load.ok, load.failed) == ("load", "/load", 2, 1)
    assert (rank.ok, rank.defaulted, rank.retried, rank.lost) == (1, 1, 1, 0)
    assert (load.running.count, load.running.p50_ms, load.running.max_ms) == (3, 10, 30)
    assert (rank.ready.count, rank.ready.max_ms) == (3, 5)
    assert (history.ended, history.admitted, history.open, history.is_complete) == (3, 3, 0, True)
    assert history.elapsed_ms == 600


async def test_failed_items_are_grouped_by_code_and_step(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        events: list[Any] = []
        for item in range(30):
            failed = Failed(ErrorCode.COMPONENT_FAILED, f"item {item} broke")
            events += [StepStarted(item, 1, 1, item), StepFailed(item, 1, failed, item + 1)]
            events += [ItemEnded(item, failed, item + 1)]
        refused = Failed(ErrorCode.INVALID_INPUT, "no text")
        await it.begin(*events, ItemEnded(30, refused, 0), RunEnded(RunStatus.FAILED, 40), inputs=31)

        history = await read_history(backend, RUN)

    broken, invalid = history.failures
    assert (broken.code, broken.step, broken.count) == (ErrorCode.COMPONENT_FAILED, "rank", 30)
    assert (broken.message, broken.items) == ("item 0 broke", tuple(range(20)))
    assert (invalid.code, invalid.step, invalid.items) == (ErrorCode.INVALID_INPUT, None, (30,))


def test_items_that_took_the_error_of_their_run_are_among_the_failures(tell: Callable[..., History]) -> None:
    late = Failed(ErrorCode.TIMEOUT, "the run's deadline of 1 s is over")

    history = tell(StepStarted(0, 0, 1, 0), RunEnded(RunStatus.FAILED, 1_000, late), total=40, failed=40)

    (group,) = history.failures
    assert (group.code, group.step, group.count, group.items) == (ErrorCode.TIMEOUT, None, 40, ())
    assert (history.open, history.in_flight) == (0, ())


@in_every_store
async def test_attempts_that_their_engine_took_with_it_are_lost(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(
            *ran(0, 0, 0, 10),
            StepStarted(0, 1, 1, 20),
            StepStarted(1, 0, 1, 25),
            RunClaimed("engine-2", "two", 9_000),
            StepStarted(0, 1, 2, 9_001),
            StepSucceeded(0, 1, 1, 9_005),
            ItemEnded(0, Succeeded(1), 9_005),
            inputs=2,
        )

        history = await read_history(backend, RUN)

    assert [step.lost for step in history.steps] == [1, 1]
    assert [(stint.owner, stint.name, stint.fate) for stint in history.stints] == [
        ("engine-1", "", "lost"),
        ("engine-2", "two", "lives"),
    ]
    assert (history.stints[0].since, history.stints[0].until) == (BEGAN, BEGAN + 0.025)
    assert history.items is not None
    assert Span(1, 1, 20, 25, "lost", 10) in history.items[0].spans


async def test_an_orderly_close_loses_nothing(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 20), RunReleased(30), RunClaimed("engine-2", "two", 9_000))

        history = await read_history(backend, RUN)

    assert history.steps[0].lost == 0
    assert [stint.fate for stint in history.stints] == ["released", "lives"]
    assert history.stints[0].until == BEGAN + 0.03


async def test_what_is_open_is_told(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(
            StepStarted(0, 0, 1, 0),
            StepWaiting(0, 0, "a worker of queue gpu", 1_000),
            StepStarted(1, 0, 1, 0),
            StepRetried(1, 0, 1, TIMEOUT, 2.5, 1_500),
            StepStarted(2, 0, 1, 2_000),
            inputs=4,
        )

        history = await read_history(backend, RUN)

    load = history.steps[0]
    assert (load.under_way, load.retrying, history.open, history.retrying) == (2, 1, 3, 1)
    assert [(wait.reason, wait.now, wait.since) for wait in load.waits] == [("a worker of queue gpu", 1, BEGAN + 1)]
    (retry,) = history.retries
    assert (retry.item, retry.attempt, retry.due, retry.error) == (1, 2, BEGAN + 4, TIMEOUT)
    assert [item.index for item in history.in_flight] == [0, 1, 2]
    assert history.in_flight[0].spans == (Span(0, 1, 0, 2_000, "open"),)


async def test_a_wait_that_is_over_is_only_counted(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 0), StepWaiting(0, 0, "a worker", 1_000), StepSucceeded(0, 0, 1, 1_100))
        await it.write(StepWaiting(-1, -1, "a key", 1_200))

        history = await read_history(backend, RUN)

    assert history.steps[0].waits == ()
    assert len(history.steps) == 2
    assert history.held == "a key"
    assert [(wait.reason, wait.count, wait.now) for wait in history.waits] == [("a worker", 1, 0)]


async def test_pauses_are_told_with_their_times(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(RunPaused(1_000), RunResumed(3_000), RunPaused(5_000))

        history = await read_history(backend, RUN)

    assert [(pause.since, pause.until) for pause in history.pauses] == [(BEGAN + 1, BEGAN + 3), (BEGAN + 5, None)]


async def test_the_slowest_items_come_first_with_their_attempts(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        events: list[Any] = []
        for item in range(100):
            length = 500 if item == 42 else item
            events += [*ran(item, 0, 1_000, 1_000 + length), ItemEnded(item, Succeeded(1), 1_000 + length)]
        await it.begin(*events, inputs=100)

        history = await read_history(backend, RUN)

    assert [item.index for item in history.slowest] == [42, 99, 98, 97, 96]
    assert history.slowest[0].spans == (Span(0, 1, 1_000, 1_500, "ok"),)
    assert history.last is not None
    assert history.last.index == 99
    assert history.items is None
    assert sum(history.busy.ended) == 100


@in_every_store
async def test_sub_runs_are_counted_and_the_unfinished_come_first(hand: Hand, backend: Backend) -> None:
    ids = [f"019aae00-0000-7000-8000-0000000000{number:02}" for number in range(2, 30)]
    async with hand() as it:
        await it.begin(StepStarted(0, 0, 1, 0), *(SubRunLinked(0, 0, id, id, 1) for id in ids))
        for place, id in enumerate(ids):
            end = () if place == 20 else (RunEnded(RunStatus.COMPLETED, 5),)
            link = ParentLink(run_id=RUN, item=0, step=0, key=id)
            await it.begin(*end, run_id=id, root_id=RUN, parent=link)

        history = await read_history(backend, RUN)

    assert history.sub_runs.by_status == {RunStatus.COMPLETED: 27, RunStatus.RUNNING: 1}
    assert [child.record.id for child in history.sub_runs.shown][:2] == [ids[20], ids[0]]
    assert len(history.sub_runs.shown) == 20


async def test_events_that_the_store_dropped_are_said_to_be_missing(make_hand: Hand) -> None:
    backend = MemoryBackend()
    async with make_hand(backend) as it:
        await it.begin(*ran(0, 0, 0, 10), *ran(1, 0, 0, 10), ItemEnded(0, Succeeded(1), 11), inputs=3)
        open = OpenItemSnapshot(index=1, outputs=[(0, True, 1)], attempts=[(0, 1), (1, 2)], retries=[(1, 1, 0)])
        await it.write(Checkpointed(1, [], 3, 3, 1, 0, [open]))
        await it.write(StepSucceeded(1, 1, 1, 500), ItemEnded(1, BROKEN, 500))

        history = await read_history(backend, RUN)

    assert not history.is_complete
    assert history.missing == 6
    assert (history.ended, history.admitted, history.steps[1].ok, history.steps[0].ok) == (2, 3, 1, 0)
    assert [(group.count, group.items) for group in history.failures] == [(1, (1,))]


async def test_steps_are_named_by_their_place_when_the_flow_is_gone(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        it.flow_id = "0" * 64
        await it.begin(*ran(0, 1, 0, 10))

        history = await read_history(backend, RUN)

    assert history.flow is None
    assert [(step.id, step.ok) for step in history.steps] == [("#0", 0), ("#1", 1)]


async def test_components_are_those_that_the_overrides_name(hand: Hand, backend: Backend) -> None:
    async with hand() as it:
        await it.begin(overrides={"steps": {"rank": {"value": {"component": "/other"}}}})

        history = await read_history(backend, RUN)

    assert [step.component for step in history.steps] == ["/load", "/other"]


async def test_an_unknown_run_is_refused(hand: Hand, backend: Backend) -> None:
    async with hand():
        with pytest.raises(RunNotFoundError):
            await read_history(backend, RUN)


async def test_a_step_that_was_not_reached_is_not_counted_as_failed(backend: Backend) -> None:
    app = Components()

    @app.component("/load")
    def load(input: int) -> int:
        raise ValueError("no")

    app.component("/ml/rank")(load)
    async with Engine(app, store=backend) as engine:
        run = await engine.submit(FLOW, [1, 2])
        await run.wait()
        history = await read_history(engine.backend, run.id)

    load_step, rank = history.steps
    assert (load_step.failed, load_step.skipped, load_step.running.count) == (2, 0, 2)
    assert (rank.failed, rank.skipped, rank.running.count) == (0, 2, 0)
    assert [(group.step, group.count) for group in history.failures] == [("load", 2)]


@in_every_store
async def test_a_run_of_an_engine_reads_as_it_went(backend: Backend) -> None:
    app = Components()

    @app.component("/load")
    def load(input: int) -> int:
        return input

    @app.component("/ml/rank")
    def rank(input: int) -> int:
        if input == 3:
            raise ValueError("three")
        return input

    async with Engine(app, store=backend) as engine:
        run = await engine.submit(FLOW, list(range(10)))
        await run.wait()
        history = await read_history(engine.backend, run.id)

    assert [(step.ok, step.failed, step.running.count) for step in history.steps] == [(10, 0, 10), (9, 1, 10)]
    assert [(group.step, group.items) for group in history.failures] == [("rank", (3,))]
    assert history.record.status is RunStatus.FAILED
    assert [stint.fate for stint in history.stints] == ["ended"]
    assert history.items is not None
    assert [item.index for item in history.items if item.ok is False] == [3]


def test_what_is_kept_does_not_grow_with_the_run() -> None:
    tally = Tally(["load"], ["/load"], [()])

    for item in range(20_000):
        tally.apply_all(
            [*ran(item, 0, item, item + 3), ItemEnded(item, BROKEN if item % 2 else Succeeded(1), item + 3)]
        )

    standing = tally.standing
    kept = (tally.items, standing.items, standing.under_way, standing.retries, tally.slowest, tally.failures)
    assert [len(each) for each in kept] == [0, 0, 0, 0, 5, 1]
    assert tally.kept is None
