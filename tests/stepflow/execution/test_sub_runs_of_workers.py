"""Sub-runs of steps that are done elsewhere: by a worker, which asks for them through a server."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import ComponentError, RunNotFoundError
from stepflow.execution.handle import Run
from stepflow.execution.options import RecoverySettings
from stepflow.records import RunStatus, Succeeded, task_id
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock

pytestmark = pytest.mark.anyio

ONE = {"steps": [{"id": "s", "component": "/hang", "input": {"$input": "$"}}], "output": {"$step": "s"}}
DOUBLE = {"steps": [{"id": "d", "component": "/double", "input": {"$input": "$"}}], "output": {"$step": "d"}}
PASSIVE = RecoverySettings(enabled=False)


class App:
    def __init__(self) -> None:
        self.began = 0
        self.components = Components()

        @self.components.component("/hang")
        async def hang(value: Any) -> Any:
            self.began += 1
            await anyio.sleep_forever()

        @self.components.component("/double")
        async def double(value: int) -> int:
            return 2 * value


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def store() -> MemoryBackend:
    return MemoryBackend(shared=True, clock=TurnedClock())


@pytest.fixture
async def engine(app: App, store: MemoryBackend) -> AsyncIterator[Engine]:
    async with Engine(app.components, store=store, clock=TurnedClock(), recovery=PASSIVE) as opened:
        yield opened


async def begun(engine: Engine, app: App, **options: Any) -> Run:
    run = await engine.submit(ONE, [1], **options)
    while not app.began:
        await TurnedClock().sleep(0.01)
    return run


async def test_a_sub_run_is_of_its_parents_tree(engine: Engine, app: App) -> None:
    run = await begun(engine, app)
    child = await engine.submit_sub_run(run.id, 0, 0, DOUBLE, [1, 2], key="k")
    record = await child.wait()

    assert (record.root_id, record.parent and record.parent.run_id) == (run.id, run.id)
    assert [result.output async for result in child.results()] == [2, 4]
    assert [each.id for each in await engine.backend.runs.list(parent_id=run.id)] == [child.id]


async def test_the_same_key_is_the_same_sub_run(engine: Engine, app: App) -> None:
    run = await begun(engine, app)
    first, second = [await engine.submit_sub_run(run.id, 0, 0, ONE, [1], key="k") for _ in range(2)]
    other = await engine.submit_sub_run(run.id, 0, 0, ONE, [1], key="other")
    unnamed = [(await engine.submit_sub_run(run.id, 0, 0, ONE, [1])).id for _ in range(2)]

    assert first.id == second.id
    assert len({first.id, other.id, *unnamed}) == 4


async def test_a_step_that_waits_for_its_sub_run_lends_it_the_only_slot(engine: Engine, app: App) -> None:
    run = await begun(engine, app, max_concurrency=1)
    first = await engine.submit_sub_run(run.id, 0, 0, DOUBLE, [1], key="1")
    await TurnedClock().sleep(5)
    held = (await first.record()).status
    async with engine.lending(run.id, 0, 0):
        async with engine.lending(run.id, 0, 0):
            await first.wait()
        second = await engine.submit_sub_run(run.id, 0, 0, DOUBLE, [1], key="2")
        await second.wait()
    third = await engine.submit_sub_run(run.id, 0, 0, DOUBLE, [1], key="3")
    await TurnedClock().sleep(5)

    assert held is RunStatus.RUNNING
    assert (await third.record()).status is RunStatus.RUNNING


async def test_a_cancelled_run_ends_its_sub_runs(engine: Engine, app: App) -> None:
    run = await begun(engine, app)
    child = await engine.submit_sub_run(run.id, 0, 0, ONE, [1])
    await engine.cancel(run.id)

    assert (await child.wait()).status is RunStatus.CANCELLED


async def test_a_sub_run_that_nobody_waited_for_ends_with_its_root(engine: Engine, app: App) -> None:
    run = await begun(engine, app)
    child = await engine.submit_sub_run(run.id, 0, 0, ONE, [1])
    await engine.answer(run.id, task_id(run.id, 0, 0), Succeeded("done"))

    assert (await run.wait()).status is RunStatus.COMPLETED
    assert (await child.wait()).status is RunStatus.CANCELLED


async def test_after_a_takeover_the_key_finds_the_sub_run(app: App, store: MemoryBackend) -> None:
    async with Engine(app.components, store=store, clock=TurnedClock(), recovery=PASSIVE) as owner:
        run = await begun(owner, app)
        child = await owner.submit_sub_run(run.id, 0, 0, ONE, [1], key="k")
        done = await owner.submit_sub_run(run.id, 0, 0, DOUBLE, [1], key="d")
        await done.wait()
    async with Engine(app.components, store=store, clock=TurnedClock(), recovery=PASSIVE) as heir:
        await heir.recover()
        found = [(await heir.submit_sub_run(run.id, 0, 0, ONE, [1], key=key)).id for key in ("k", "d")]
        assert not (await heir.get(child.id)).status.is_terminal

    assert found == [child.id, done.id]


async def test_only_a_step_under_way_has_sub_runs(engine: Engine, app: App) -> None:
    run = await begun(engine, app)
    for item, step in ((1, 0), (0, 1), (0, -1)):
        with pytest.raises(ComponentError):
            await engine.submit_sub_run(run.id, item, step, DOUBLE, [1])
    with pytest.raises(RunNotFoundError):
        await engine.submit_sub_run("0" * 8 + run.id[8:], 0, 0, DOUBLE, [1])
