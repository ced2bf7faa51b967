"""What becomes visible when: commits, faults of the store, checkpoints, memory."""

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from echoing import echo

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import StoreUnavailableError
from stepflow.execution.events import Checkpointed, ItemsAdmitted, RunStarted, decode_events
from stepflow.execution.options import RecoverySettings
from stepflow.execution.state import RunState
from stepflow.records import LeaseLost, RunStatus, Verdict, Write
from stepflow.stores.memory import MemoryBackend

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]
Chained = Callable[..., dict[str, Any]]


class Recorded(MemoryBackend):
    """A memory store that keeps what it was asked to write, and may be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[Sequence[Write]] = []
        self.faults: list[str] = []
        self.takes_over = False

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        fault = self.faults.pop(0) if self.faults else None
        if fault == "before":
            raise StoreUnavailableError("not there")
        if self.takes_over:
            return [LeaseLost(9) for _ in writes]
        verdicts = await super().commit(writes)
        self.commits.append(writes)
        if fault == "after":
            raise StoreUnavailableError("the answer was lost")
        return verdicts


async def test_a_run_of_one_step_is_two_commits(make_engine: MakeEngine, chained: Chained) -> None:
    store = Recorded()

    async with make_engine(echo(), store=store) as engine:
        await engine.run(chained("/echo"), 1)

    assert len(store.commits) == 2


async def test_ten_steps_in_a_row_are_eleven_commits(make_engine: MakeEngine, chained: Chained) -> None:
    store = Recorded()

    async with make_engine(echo(), store=store) as engine:
        await engine.run(chained(*["/echo"] * 10), 1)

    assert len(store.commits) == 11


async def test_steps_that_end_together_share_a_commit(make_engine: MakeEngine, chained: Chained) -> None:
    store = Recorded()

    async with make_engine(echo(), store=store) as engine:
        run = await engine.submit(chained("/echo"), range(100))
        await run.wait()

    assert len(store.commits) <= 4


async def test_a_dependent_starts_only_after_the_commit(make_engine: MakeEngine, chained: Chained) -> None:
    store, app, seen = Recorded(), Components(), []

    @app.component("/look")
    async def look(value: Any, ctx: Context) -> Any:
        seen.append((ctx.step_id, len(store.commits)))
        return value

    async with make_engine(app, store=store) as engine:
        await engine.run(chained("/look", "/look"), 1)

    assert seen == [("s0", 1), ("s1", 2)]


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_commit_without_an_answer_is_repeated_and_counts_once(
    make_engine: MakeEngine, chained: Chained, fault: str
) -> None:
    for cut in range(4):
        store = Recorded()
        store.faults = [""] * cut + [fault, fault]

        async with make_engine(echo(), store=store) as engine:
            run = await engine.submit(chained("/echo", "/echo"), [1, 2])
            record = await run.wait()
            results = [result.output async for result in run.results()]
            rows = await store.read(run.id)

        positions = [row.first + offset for row in rows for offset in range(row.count)]
        assert (record.succeeded, results) == (2, [1, 2])
        assert positions == sorted(set(positions))


async def test_a_run_that_was_taken_over_stops_at_once(make_engine: MakeEngine, chained: Chained) -> None:
    store, app, calls = Recorded(), Components(), []

    @app.component("/first")
    async def first(value: Any) -> Any:
        store.takes_over = True
        return value

    @app.component("/second")
    async def second(value: Any) -> Any:
        calls.append(value)
        return value

    async with make_engine(app, store=store) as engine:
        run = await engine.submit(chained("/first", "/second"), [1])
        with anyio.move_on_after(5) as waiting:
            await run.wait()  # for the engine that has it now

    assert waiting.cancelled_caught
    assert calls == []


async def test_a_checkpoint_replaces_what_came_before_it(make_engine: MakeEngine, chained: Chained) -> None:
    often = RecoverySettings(checkpoint_interval=50)
    store = MemoryBackend()

    async with make_engine(echo(), store=store, max_concurrency=5, recovery=often) as engine:
        run = await engine.submit(chained("/echo", "/echo"), range(2_500))
        await run.wait()
        rows = await store.read(run.id)
        kinds = [type(event) for row in rows for event in decode_events(row.payload)]

    assert kinds[0] is RunStarted
    assert kinds.count(Checkpointed) == 1
    assert kinds.count(ItemsAdmitted) == 1
    assert len(kinds) < 150


async def test_a_run_recovers_from_its_last_checkpoint(make_engine: MakeEngine, chained: Chained) -> None:
    often = RecoverySettings(checkpoint_interval=7)
    store, app = MemoryBackend(), Components()
    reached = anyio.Event()

    @app.component("/stop")
    async def stop(value: int) -> int:
        if value == 20:
            reached.set()
            await anyio.sleep_forever()
        return value

    async with make_engine(app, store=store, max_concurrency=3, recovery=often) as engine:
        run = await engine.submit(chained("/stop", "/stop"), range(30))
        await reached.wait()
        while run._live.state.succeeded < 29 or run._live.has_pending:
            await anyio.sleep(1)
        rows = await store.read(run.id)
        expected = run._live.state.snapshot()
        plan = run._live.plan

    replayed = RunState(plan, {})
    for row in rows:
        for event in decode_events(row.payload):
            replayed.apply(event)

    assert (replayed.low_water, replayed.succeeded) == (expected.low_water, expected.succeeded)
    assert {snapshot.index: snapshot.outputs for snapshot in replayed.snapshot().open} == {
        snapshot.index: snapshot.outputs for snapshot in expected.open
    }


async def test_only_what_is_in_flight_is_held(make_engine: MakeEngine, chained: Chained) -> None:
    open_items, admitted = [], []

    def inputs() -> Any:
        for number in range(5_000):
            admitted.append(number)
            yield number

    async with make_engine(echo(), store=MemoryBackend(), max_concurrency=10) as engine:
        async for result in engine.run_batch(chained("/echo", "/echo"), inputs()):
            (tree,) = engine._parts.executor.trees.values() or [None]
            if tree is not None:
                open_items.append(max(len(run.state.items) for run in tree.runs.values()))
                assert len(admitted) - result.index <= 2_000
        kept = [run.results for run in engine.backend._tables.runs.values()]

    assert len(open_items) > 100
    assert max(open_items) <= 100
    assert len(kept[0]) <= 1_100


async def test_a_reader_who_lags_holds_the_run_back(make_engine: MakeEngine, chained: Chained) -> None:
    app, done = Components(), []

    @app.component("/count")
    async def count(value: int) -> int:
        done.append(value)
        return value

    async with make_engine(app) as engine:
        results = engine.run_batch(chained("/count"), iter(range(100_000)))
        first = await anext(results)
        await anyio.sleep(60)
        begun = len(done)
        await results.aclose()
        await anyio.sleep(1)
        (record,) = await engine.list_runs()

    assert first.output == 0
    assert begun <= 1_100
    assert record.status is RunStatus.CANCELLED


async def test_inputs_are_written_by_themselves_so_that_a_checkpoint_keeps_them(
    make_engine: MakeEngine, chained: Chained
) -> None:
    store = Recorded()

    async with make_engine(echo(), store=store) as engine:
        run = await engine.submit(chained("/echo", "/echo"), iter(range(3_000)))
        await run.wait()

    writes = [(write, decode_events(write.payload)) for commit in store.commits for write in commit]
    admitting = [(write, events) for write, events in writes if any(type(e) is ItemsAdmitted for e in events)]
    assert any(len(commit) > 1 for commit in store.commits[1:])
    for write, events in admitting:
        [admitted] = events
        assert isinstance(admitted, ItemsAdmitted)
        assert write.has_inputs
        assert (write.min_item, write.max_item + 1) == (admitted.first, admitted.first + len(admitted.inputs))


@pytest.mark.parametrize("steps", [1_500, 3_000])
async def test_a_run_whose_values_cannot_be_written_is_ended_and_harms_no_other(
    make_engine: MakeEngine, chained: Chained, caplog: pytest.LogCaptureFixture, steps: int
) -> None:
    flow = chained(*["/builtin/noop"] * steps)
    for step in flow["steps"][1:]:
        step["input"] = [step["input"]]

    async with make_engine(echo()) as engine:
        deep = await engine.submit(flow, [1])
        other = await engine.submit(chained("/echo"), [2])
        record = await deep.wait()
        results = [result async for result in deep.results()]

        assert [result.output async for result in other.results()] == [2]

    assert record.status is RunStatus.FAILED
    assert [result.error.message for result in results if result.error] == [
        "what happened can't be recorded: a value is nested too deeply"
    ]
    assert "what happened can't be recorded" in caplog.text
