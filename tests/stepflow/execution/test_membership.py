"""Several engines on one store: each is heard of, takes over what the dead left, and does what the others ask."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import RunActiveError, RunNotFoundError
from stepflow.execution.events import (
    RunClaimed,
    RunPaused,
    RunReleased,
    RunResumed,
    StepStarted,
    StepWaiting,
    decode_events,
)
from stepflow.execution.options import RecoverySettings, RetentionSettings
from stepflow.execution.verdict import RetrySettings
from stepflow.records import RunStatus
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock
from stepflow.testing.faults import FaultyBackend
from stepflow.testing.simulation import Faults

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]
NONE = Faults(delay_s=0, lost_rate=0, torn_rate=0, stall_rate=0)


class Gate:
    """Components of which one hangs until it is opened."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.reached = anyio.Event()
        self.opened = anyio.Event()
        self.app = Components()

        @self.app.component("/work")
        async def work(value: Any) -> Any:
            self.calls.append(value)
            return value

        @self.app.component("/gate")
        async def gate(value: Any) -> Any:
            self.calls.append(value)
            self.reached.set()
            await self.opened.wait()
            return value


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@pytest.fixture
async def store() -> MemoryBackend:
    return MemoryBackend(shared=True, clock=TurnedClock(), keep_events=True)


def chain(*components: str) -> dict[str, Any]:
    steps, source = [], {"$input": "$"}
    for number, component in enumerate(components):
        steps.append({"id": f"s{number}", "component": component, "input": source})
        source = {"$step": f"s{number}"}
    return {"steps": steps, "output": source}


@asynccontextmanager
async def doomed(make_engine: MakeEngine, store: MemoryBackend, app: Components, **options: Any) -> Any:
    """An engine that dies at the end: whoever shares its store hears nothing more from it."""
    seat = FaultyBackend(store, NONE, Random(0), TurnedClock())
    async with make_engine(app, store=seat, **options) as engine:
        yield engine
        await anyio.sleep(1)  # what began is written down
        seat.die()


async def kinds(store: MemoryBackend, engine: Engine, run_id: str) -> list[type]:
    return [type(event) async for event in engine.events(run_id)]


async def test_what_a_dead_engine_left_is_taken_over_in_time(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    async with make_engine(gate.app, store=store) as survivor:
        async with doomed(make_engine, store, gate.app) as engine:
            run = await engine.submit(chain("/work", "/gate"), [1])
            await gate.reached.wait()
        died = TurnedClock()
        gate.opened.set()
        record = await (await survivor.get_run(run.id)).wait()
        waited_s = died.elapsed_s
        events = await kinds(store, survivor, run.id)

    assert record.status is RunStatus.COMPLETED
    assert waited_s < 10
    assert gate.calls == [1, 1, 1]
    assert events.count(RunClaimed) == 1
    assert RunReleased not in events


async def test_an_engine_that_closes_sets_its_runs_free_at_once(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    async with make_engine(gate.app, store=store) as survivor:
        async with make_engine(gate.app, store=store) as engine:
            run = await engine.submit(chain("/gate"), [1])
            await gate.reached.wait()
        closed = TurnedClock()
        gate.opened.set()
        await (await survivor.get_run(run.id)).wait()
        waited_s = closed.elapsed_s
        events = await kinds(store, survivor, run.id)

    assert waited_s < 2
    assert events.count(RunReleased) == 1


async def test_closing_in_an_orderly_way_is_no_death_of_a_step(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    for _ in range(6):
        gate.reached = anyio.Event()
        async with make_engine(gate.app, store=store, retry=RetrySettings(recovery_max=1)) as engine:
            if not await engine.list_runs():
                await engine.submit(chain("/gate"), [1])
            await gate.reached.wait()
    gate.opened.set()
    async with make_engine(gate.app, store=store) as engine:
        (record,) = await engine.list_runs()
        record = await (await engine.get_run(record.id)).wait()

    assert record.status is RunStatus.COMPLETED


async def test_a_step_that_kills_its_engines_is_given_up_by_name(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    settings = {"retry": RetrySettings(recovery_max=1), "name": "the same"}
    for _ in range(2):
        gate.reached = anyio.Event()
        async with doomed(make_engine, store, gate.app, **settings) as engine:
            if not await engine.list_runs():
                await engine.submit(chain("/gate"), [1])
            await gate.reached.wait()
    async with make_engine(gate.app, store=store, **settings) as engine:
        (record,) = await engine.list_runs()
        run = await engine.get_run(record.id)
        await run.wait()
        result = await run.result(0)

    assert result.error is not None
    assert result.error.message == ('step "s0" was running 2 times when its engine died; it is not started again')


async def test_the_same_name_takes_over_without_waiting(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    async with doomed(make_engine, store, gate.app, name="orch-0") as engine:
        run = await engine.submit(chain("/gate"), [1])
        await gate.reached.wait()
    died = TurnedClock()
    gate.opened.set()
    async with make_engine(gate.app, store=store, name="orch-0") as engine:
        (known,) = await store.owners.engines()
        await (await engine.get_run(run.id)).wait()

    assert known.name == "orch-0"
    assert died.elapsed_s < 1


async def test_only_runs_of_ones_own_group_are_taken_over(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    async with make_engine(gate.app, store=store, group="mine") as other:
        async with doomed(make_engine, store, gate.app, group="theirs") as engine:
            run = await engine.submit(chain("/gate"), [1])
            await gate.reached.wait()
        await anyio.sleep(60)
        left = await other.get(run.id)
        gate.opened.set()
        taken = await other.recover(run.id)
        done = await (await other.get_run(run.id)).wait()

    assert left.status is RunStatus.RUNNING
    assert list(taken) == [run.id]
    assert done.status is RunStatus.COMPLETED


async def test_an_engine_that_hung_gives_up_its_runs_and_begins_anew(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    seat = FaultyBackend(store, NONE, Random(0), TurnedClock())
    async with make_engine(gate.app, store=seat) as zombie, make_engine(gate.app, store=store) as survivor:
        run = await zombie.submit(chain("/gate"), [1])
        await gate.reached.wait()
        await anyio.sleep(1)
        seat.stall(30)
        await anyio.sleep(20)
        owner = await store.owners.ownership(run.id)
        await anyio.sleep(20)
        gate.opened.set()
        seen = [await (await engine.get_run(run.id)).wait() for engine in (zombie, survivor)]
        second = await zombie.submit(chain("/work"), [2])
        again = await second.wait()
        events = await kinds(store, survivor, run.id)

    assert owner is not None
    assert owner.epoch == 2
    assert [record.status for record in (*seen, again)] == [RunStatus.COMPLETED] * 3
    assert events.count(StepStarted) == 2


async def test_two_engines_that_submit_one_key_at_once_start_one_run(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    ids: list[str] = []

    async def submit(engine: Engine) -> None:
        ids.append((await engine.submit(chain("/work"), [1, 2], key="night")).id)

    async with make_engine(gate.app, store=store) as one, make_engine(gate.app, store=store) as two:
        async with anyio.create_task_group() as tasks:
            for engine in (one, two, one, two):
                tasks.start_soon(submit, engine)
        outputs = [result.output async for result in (await one.get_run(ids[0])).results()]

    assert len(set(ids)) == 1
    assert outputs == [1, 2]
    assert sorted(gate.calls) == [1, 2]


async def test_any_engine_waits_for_lists_and_cancels_the_runs_of_all(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    async with make_engine(gate.app, store=store) as owner, make_engine(gate.app, store=store) as other:
        run = await owner.submit(chain("/gate"), [1])
        await gate.reached.wait()
        listed = [record.id for record in await other.list_runs()]
        await other.cancel(run.id)
        record = await run.wait()
        results = [result.error async for result in (await other.get_run(run.id)).results()]
        await other.cancel(run.id)
        after = await other.get(run.id)

    assert listed == [run.id]
    assert record.status is after.status is RunStatus.CANCELLED
    assert [error.code for error in results if error is not None] == ["CANCELLED"]


async def test_results_of_another_engines_run_come_as_they_are_there(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    async with make_engine(gate.app, store=store) as owner, make_engine(gate.app, store=store) as other:
        run = await owner.submit(chain("/work"), list(range(600)))
        in_order = [result.output async for result in (await other.get_run(run.id)).results()]
        as_ended = [result.index async for result in (await other.get_run(run.id)).results(order="completion")]

    assert in_order == list(range(600))
    assert sorted(as_ended) == list(range(600))


async def test_a_paused_run_starts_nothing_and_goes_on_when_resumed(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    async with make_engine(gate.app, store=store) as engine:
        run = await engine.submit(chain("/gate", "/work"), [1])
        await gate.reached.wait()
        await engine.pause(run.id)
        paused = await engine.get(run.id)
        gate.opened.set()
        await anyio.sleep(100)
        calls = list(gate.calls)
        await engine.resume(run.id)
        done = await run.wait()
        events = await kinds(store, engine, run.id)

    assert paused.status is RunStatus.PAUSED
    assert calls == [1]
    assert done.status is RunStatus.COMPLETED
    assert (events.count(RunPaused), events.count(RunResumed)) == (1, 1)


async def test_a_pause_outlives_the_engine(make_engine: MakeEngine, store: MemoryBackend, gate: Gate) -> None:
    async with doomed(make_engine, store, gate.app, name="a") as engine:
        run = await engine.submit(chain("/gate", "/work"), [1])
        await gate.reached.wait()
        await engine.pause(run.id)
    gate.opened.set()
    async with make_engine(gate.app, store=store, name="a") as engine:
        await anyio.sleep(100)
        still = await engine.get(run.id)
        calls = list(gate.calls)
        await engine.resume(run.id)
        done = await (await engine.get_run(run.id)).wait()

    assert still.status is RunStatus.PAUSED
    assert calls == [1]
    assert done.status is RunStatus.COMPLETED


async def test_what_was_asked_for_while_nobody_drove_a_run_is_done_before_it_goes_on(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    async with doomed(make_engine, store, gate.app) as engine:
        run = await engine.submit(chain("/gate", "/work"), [1])
        await gate.reached.wait()
    await anyio.sleep(20)
    asking = RecoverySettings(enabled=False)
    async with make_engine(gate.app, store=store, recovery=asking) as engine:
        await engine.pause(run.id)
        paused = await engine.get(run.id)
        await engine.cancel(run.id)
        cancelled = await engine.get(run.id)

    assert (paused.status, cancelled.status) == (RunStatus.PAUSED, RunStatus.CANCELLED)
    assert gate.calls == [1]


async def test_a_retry_waits_out_its_delay_over_the_death_of_its_engine(
    make_engine: MakeEngine, store: MemoryBackend
) -> None:
    app, attempts = Components(), []

    @app.component("/flaky")
    async def flaky(value: Any) -> Any:
        attempts.append(value)
        if len(attempts) == 1:
            raise RuntimeError("not yet")
        return value

    flow = {
        "steps": [
            {
                "id": "f",
                "component": "/flaky",
                "input": 1,
                "onError": {"action": "retry", "backoff": {"type": "constant", "delayMs": 100_000}},
            }
        ],
        "output": {"$step": "f"},
    }
    begun = TurnedClock()
    async with doomed(make_engine, store, app, name="a") as engine:
        run = await engine.submit(flow, [None])
    async with make_engine(app, store=store, name="a") as engine:
        await (await engine.get_run(run.id)).wait()

    assert len(attempts) == 2
    assert 50 <= begun.elapsed_s <= 110


async def test_a_wait_that_lasts_is_written_down(make_engine: MakeEngine, store: MemoryBackend, gate: Gate) -> None:
    async with doomed(make_engine, store, gate.app, name="a") as engine:
        run = await engine.submit(chain("/gate"), [1])
        await gate.reached.wait()
    async with make_engine(Components(), store=store, name="a") as engine:
        await anyio.sleep(5)
        events = [event for row in await store.read(run.id) for event in decode_events(row.payload)]
        explained = str(await engine.explain(run.id))

    assert [event.reason for event in events if isinstance(event, StepWaiting)] == ["no live engine serves /gate"]
    assert "no live engine serves /gate" in explained


async def test_a_recovered_run_goes_on_once_somebody_has_what_it_waits_for(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    async with doomed(make_engine, store, gate.app, name="a") as engine:
        run = await engine.submit(chain("/gate"), [1])
        await gate.reached.wait()
    app = Components()
    async with make_engine(app, store=store, name="a") as engine:
        await anyio.sleep(5)
        app.component("/other")(lambda value: value)
        await anyio.sleep(5)
        before = await store.runs.get(run.id)
        app.component("/gate")(lambda value: 10 * value)
        again = await engine.get_run(run.id)
        results = [result.output async for result in again.results()]

    assert before is not None
    assert before.status is RunStatus.RUNNING
    assert results == [10]


async def test_failed_items_are_tried_again_behind_what_they_had_finished(
    make_engine: MakeEngine, store: MemoryBackend
) -> None:
    app, calls, is_broken = Components(), [], [True]

    @app.component("/first")
    async def first(value: Any) -> Any:
        calls.append(("first", value))
        return value

    @app.component("/second")
    async def second(value: Any) -> Any:
        calls.append(("second", value))
        if is_broken[0] and value % 2:
            raise RuntimeError("odd")
        return value * 10

    async with make_engine(app, store=store) as engine:
        former = await engine.submit(chain("/first", "/second"), [1, 2, 3])
        await former.wait()
        calls.clear()
        is_broken[0] = False
        run = await engine.retry(former.id, key="again")
        same = await engine.retry(former.id, key="again")
        record = await run.wait()
        outputs = [result.output async for result in run.results()]
        unchanged = await engine.get(former.id)

    assert outputs == [10, 20, 30]
    assert sorted(calls) == [("second", 1), ("second", 3)]
    assert record.retry_of == former.id
    assert same.id == run.id
    assert (unchanged.status, unchanged.failed) == (RunStatus.FAILED, 2)


async def test_what_has_not_ended_is_neither_retried_nor_deleted(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    async with make_engine(gate.app, store=store) as engine:
        run = await engine.submit(chain("/gate"), [1])
        await gate.reached.wait()
        with pytest.raises(RunActiveError):
            await engine.retry(run.id)
        with pytest.raises(RunActiveError):
            await engine.delete(run.id)
        gate.opened.set()
        await run.wait()
        await engine.delete(run.id)
        with pytest.raises(RunNotFoundError):
            await engine.delete(run.id)
        left = await engine.list_runs()

    assert left == []


async def test_old_runs_are_deleted_in_time(make_engine: MakeEngine, store: MemoryBackend, gate: Gate) -> None:
    rules = RetentionSettings(age_s=1_000, every_s=60)
    async with make_engine(gate.app, store=store, retention=rules) as engine:
        await (await engine.submit(chain("/work"), [1])).wait()
        await anyio.sleep(900)
        kept = len(await engine.list_runs())
        await (await engine.submit(chain("/work"), [2])).wait()
        await anyio.sleep(200)
        left = len(await engine.list_runs())

    assert (kept, left) == (1, 1)


async def test_an_engine_whose_scope_is_cancelled_sets_its_runs_free_without_delay(
    make_engine: MakeEngine, store: MemoryBackend, gate: Gate
) -> None:
    clock = TurnedClock()
    with anyio.CancelScope() as scope:
        async with make_engine(gate.app, store=store) as engine:
            run = await engine.submit(chain("/gate"), [1])
            await gate.reached.wait()
            scope.cancel()
    took_s = clock.elapsed_s
    gate.opened.set()
    async with make_engine(gate.app, store=store) as engine:
        await (await engine.get_run(run.id)).wait()
        events = await kinds(store, engine, run.id)

    assert took_s < 1
    assert events.count(RunReleased) == 1
