"""Answers that come by another way than the one a step waits on: to another engine, or to the next owner of the run."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.execution import places
from stepflow.execution.events import StepFailed, StepRetried, StepStarted, StepSucceeded, decode_events
from stepflow.execution.handle import Run
from stepflow.execution.options import RecoverySettings
from stepflow.records import ErrorCode, Failed, Outcome, RunStatus, Succeeded, task_id
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock

pytestmark = pytest.mark.anyio

FLOW = {
    "steps": [
        {"id": "gate", "component": "/gate", "input": {"$input": "$"}},
        {"id": "next", "component": "/next", "input": {"$step": "gate"}},
    ],
    "output": {"$step": "next"},
}
SLOW = RecoverySettings(enabled=False)


class App:
    """A component that never answers, and one that does."""

    def __init__(self) -> None:
        self.calls = 0
        self.components = Components()

        @self.components.component("/gate")
        async def gate(value: Any) -> Any:
            self.calls += 1
            if value == "done":
                return "by the component"
            await anyio.sleep_forever()
            return None

        @self.components.component("/next")
        async def next(value: Any) -> Any:
            return [value]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def store() -> MemoryBackend:
    return MemoryBackend(shared=True, clock=TurnedClock())


@pytest.fixture
async def owner(app: App, store: MemoryBackend) -> AsyncIterator[Engine]:
    async with Engine(app.components, store=store, clock=TurnedClock(), recovery=SLOW) as engine:
        yield engine


@pytest.fixture
async def other(store: MemoryBackend) -> AsyncIterator[Engine]:
    async with Engine(store=store, clock=TurnedClock(), recovery=SLOW) as engine:
        yield engine


async def begun(engine: Engine, app: App, items: int = 1, flow: Any = FLOW, **options: Any) -> Run:
    before = app.calls
    run = await engine.submit(flow, list(range(items)), **options)
    while app.calls < before + min(items, options.get("max_concurrency", items)):
        await TurnedClock().sleep(0.01)
    return run


def gate_of(run: Run, item: int = 0) -> str:
    return task_id(run.id, item, 0)


async def outcome(run: Run) -> Outcome:
    await run.wait()
    (result,) = [result async for result in run.results()]
    return result.outcome


async def events(engine: Engine, run: Run) -> list[Any]:
    rows = await engine.backend.journal.read(run.id)
    return [event for row in rows for event in decode_events(row.payload)]


async def test_an_answer_ends_the_step_that_is_performed_and_what_performed_it(owner: Engine, app: App) -> None:
    run = await begun(owner, app)

    assert await owner.answer(run.id, gate_of(run), Succeeded(7))

    assert await outcome(run) == Succeeded([7])
    told = [type(event) for event in await events(owner, run)]
    assert (told.count(StepStarted), told.count(StepSucceeded)) == (2, 2)


async def test_an_answer_to_another_engine_reaches_the_owner(owner: Engine, other: Engine, app: App) -> None:
    run = await begun(owner, app)

    assert await other.answer(run.id, gate_of(run), Succeeded(7))

    assert await outcome(run) == Succeeded([7])


async def test_an_answer_that_comes_while_nobody_drives_the_run_is_not_lost(
    other: Engine, store: MemoryBackend, app: App
) -> None:
    async with Engine(app.components, store=store, clock=TurnedClock(), recovery=SLOW) as owner:
        run = await begun(owner, app)
    assert await other.answer(run.id, gate_of(run), Succeeded(7))
    calls = app.calls
    async with Engine(app.components, store=store, clock=TurnedClock(), recovery=SLOW) as heir:
        await heir.recover()
        again = await heir.get_run(run.id)

        assert await outcome(again) == Succeeded([7])
        assert app.calls == calls
        assert not await store.inbox.receive(heir.owner)


async def test_an_answer_to_what_has_finished_or_never_was_changes_nothing(
    owner: Engine, other: Engine, app: App
) -> None:
    run = await owner.submit(FLOW, ["done"])
    unknown = await owner.answer(run.id, task_id(run.id, 5, 0), Succeeded(1))
    assert await outcome(run) == Succeeded(["by the component"])
    late = [await engine.answer(run.id, gate_of(run), Succeeded(1)) for engine in (owner, other)]
    nowhere = await other.answer("0" * 8 + gate_of(run)[8:], gate_of(run), Succeeded(1))

    assert (unknown, late, nowhere) == (False, [False, False], False)
    assert (await run.record()).status is RunStatus.COMPLETED


async def test_two_answers_are_one(owner: Engine, other: Engine, app: App) -> None:
    run = await begun(owner, app)

    for engine in (other, other, owner):
        await engine.answer(run.id, gate_of(run), Succeeded(7))

    assert await outcome(run) == Succeeded([7])
    gates = [event for event in await events(owner, run) if isinstance(event, StepSucceeded) and event.step == 0]
    assert len(gates) == 1


async def test_a_slot_is_free_after_an_answer(owner: Engine, app: App) -> None:
    run = await begun(owner, app, 3, max_concurrency=1)

    for item in range(3):
        while not await owner.answer(run.id, gate_of(run, item), Succeeded(item)):
            await TurnedClock().sleep(0.01)

    assert [result.output async for result in run.results()] == [[0], [1], [2]]


async def test_a_failure_of_the_attempt_that_goes_on_is_judged_as_always(
    owner: Engine, other: Engine, app: App
) -> None:
    on_error = {"action": "retry", "maxRetries": 1, "backoff": {"type": "constant", "delayMs": 1}}
    flow = {**FLOW, "steps": [{**FLOW["steps"][0], "onError": on_error}, FLOW["steps"][1]]}
    run = await begun(owner, app, flow=flow)
    bad = Failed(ErrorCode.COMPONENT_FAILED, "bad")

    await other.answer(run.id, gate_of(run), bad, attempt=1)
    while app.calls < 2:
        await TurnedClock().sleep(0.1)
    await other.answer(run.id, gate_of(run), bad, attempt=1)  # of an attempt that is over
    await TurnedClock().sleep(5)
    assert not (await run.record()).status.is_terminal
    await other.answer(run.id, gate_of(run), bad, attempt=2)

    assert await outcome(run) == bad
    told = [type(event) for event in await events(owner, run)]
    assert (told.count(StepRetried), told.count(StepFailed)) == (1, 2)


async def test_a_failure_of_an_attempt_that_broke_off_ends_the_step_if_it_may_not_be_tried_again(
    other: Engine, store: MemoryBackend, app: App
) -> None:
    async with Engine(app.components, store=store, clock=TurnedClock(), recovery=SLOW) as owner:
        run = await begun(owner, app)
        retried = await begun(owner, app)
    await other.answer(run.id, gate_of(run), Failed(ErrorCode.INVALID_INPUT, "never"), attempt=1)
    await other.answer(retried.id, gate_of(retried), Failed(ErrorCode.UNREACHABLE, "later"), attempt=1)
    calls = app.calls
    async with Engine(app.components, store=store, clock=TurnedClock(), recovery=SLOW) as heir:
        await heir.recover()

        assert await outcome(await heir.get_run(run.id)) == Failed(ErrorCode.INVALID_INPUT, "never")
        while app.calls == calls:
            await TurnedClock().sleep(0.1)
        assert app.calls == calls + 1


async def test_answers_to_many_items_find_their_steps_and_little_is_kept_for_it(
    owner: Engine, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "KEPT_PLACES", 10)
    run = await begun(owner, app, 300, max_concurrency=10)
    answered, most = 0, 0
    while answered < 300:
        answered += await owner.answer(run.id, gate_of(run, answered), Succeeded(answered))
        driven = owner._parts.executor.live(run.id)
        most = max(most, 0 if driven is None else len(driven._places._places))

    assert [result.output async for result in run.results()] == [[item] for item in range(300)]
    assert most < 200
