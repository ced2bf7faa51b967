"""Steps whose components are those of workers: they wait in queues until one comes."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from queue_site import BIG_FLOW, DOUBLE, FLOW, ROUTES, Waits, results, site

from stepflow.engine import Engine
from stepflow.records import ErrorCode, RunStatus
from stepflow.testing.clock import TurnedClock, turned_backend
from stepflow_grpc.plugin import QueuePlugin, make_plugin
from stepflow_grpc.queues.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return turned_backend(request.param)


async def test_a_worker_does_the_steps_that_are_routed_to_its_queue() -> None:
    async with site() as here:
        here.worker(slots=4)
        assert await results(here, [1, 2, 3]) == [2, 4, 6]


async def test_a_route_may_name_another_queue() -> None:
    async with site() as here:
        here.worker("small")
        here.worker("large", queue="large")
        assert await results(here, [1], BIG_FLOW) == [2]
        depths = {each.name: each.finished for each in here.hub.queues.statistics()}

    assert depths == {"cpu": 0, "large": 1}


async def test_a_step_waits_visibly_until_a_worker_comes() -> None:
    async with site() as here:
        here.learn()
        run = await here.engine.submit(FLOW, [1])
        await here.clock.sleep(3_600)
        waited = list(here.waits.reasons)
        here.worker()
        record = await run.wait()

    assert waited == ["no worker serves queue 'cpu'", "", "no worker has served queue 'cpu' for 30 s"]
    assert record.status is RunStatus.COMPLETED


async def test_a_step_whose_queue_never_had_a_worker_says_so_again_after_a_while() -> None:
    async with site() as here:
        run = await here.engine.submit(FLOW, [1])
        await here.clock.sleep(3_600)
        waited = list(here.waits.reasons)
        explained = str(await here.engine.explain(run.id))

    assert waited == ["no worker serves queue 'cpu'", "", "no worker has served queue 'cpu' for 30 s"]
    assert "no worker has served queue 'cpu' for 30 s, since" in explained
    assert "start a worker that serves it" in explained


async def test_a_dead_queue_takes_no_slots_from_other_steps() -> None:
    flow = {
        "steps": [
            {"id": "dead", "component": "/big/double", "input": {"$input": "$"}},
            {"id": "live", "component": "/w/double", "input": {"$input": "$"}},
        ],
        "output": {"$step": "live"},
    }
    async with site() as here:
        here.learn("large", "gone")
        here.worker(slots=10)
        await here.engine.submit(flow, list(range(20)), max_concurrency=2)
        await here.clock.sleep(60)

        assert sorted(here.done) == list(range(20))


async def test_slots_are_kept_when_the_first_worker_comes() -> None:
    async with site() as here:
        here.learn()
        run = await here.engine.submit(FLOW, list(range(20)), max_concurrency=3)
        await here.clock.sleep(60)
        here.worker(slots=20)
        await run.wait()

        assert here.busiest == 3


async def test_a_queue_timeout_is_a_failure_of_the_way_and_tried_again() -> None:
    async with site(settings=Settings(queue_timeout_s=5.0)) as here:
        here.learn()
        run = await here.engine.submit(FLOW, [1])
        (result,) = [result async for result in run.results()]

    assert result.error is not None
    assert result.error.code is ErrorCode.TIMEOUT
    assert here.waits.attempts == [1, 2, 3, 4]


async def test_what_a_dead_worker_had_is_done_by_another() -> None:
    async with site() as here:
        doomed = here.worker("doomed", slots=4, work_s=100.0)
        run = await here.engine.submit(FLOW, list(range(4)))
        await here.clock.sleep(2)
        doomed.cancel()
        here.worker("next", slots=4)
        record = await run.wait()

        assert record.status is RunStatus.COMPLETED
        assert sorted(here.done) == [0, 1, 2, 3]


async def test_a_cancelled_run_leaves_nothing_in_the_queue() -> None:
    async with site() as here:
        here.worker(slots=1, work_s=1_000.0)
        run = await here.engine.submit(FLOW, list(range(10)), max_concurrency=5)
        await here.clock.sleep(5)
        before = [(each.depth, each.claimed) for each in here.hub.queues.statistics()]
        await here.engine.cancel(run.id)
        await here.clock.sleep(6)
        after = [(each.depth, each.claimed) for each in here.hub.queues.statistics()]

    assert before == [(4, 1), (0, 0)]
    assert after == [(0, 0), (0, 0)]


async def test_components_are_known_from_what_workers_say() -> None:
    async with site() as here:
        unknown = here.plugin.components({})
        run = await here.engine.submit(FLOW, [1])
        await here.clock.sleep(10)
        here.worker()
        await run.wait()

        assert unknown is None
        assert here.plugin.components({}) == tuple(DOUBLE)
        assert here.plugin.components({}) is here.plugin.components({})
        assert here.plugin.components({"queueName": "large"}) is None


def test_a_configuration_makes_the_plugin() -> None:
    plugin = make_plugin(name="w", options={"queueName": "gpu", "queueTimeoutSecs": 30}, working_directory=Path())

    assert plugin.queue_of({}) == "gpu"
    assert plugin.queue_of({"queueName": "other"}) == "other"
    assert plugin.settings == Settings(queue_timeout_s=30.0)


async def test_without_a_server_a_step_says_what_it_waits_for() -> None:
    waits = Waits()
    plugin = QueuePlugin(name="work", queue="cpu")
    async with Engine(plugins={"work": plugin}, routes=ROUTES, clock=TurnedClock(), observers=[waits]) as engine:
        run = await engine.submit(FLOW, [1])
        with anyio.move_on_after(5):
            await run.wait()

    assert len(waits.reasons) == 1
