"""Steps whose components are those of workers: they wait in queues, of their own engine or of any that has a worker."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from stepflow.engine import Engine
from stepflow.execution.events import StepStarted, StepWaiting
from stepflow.protocols import Observer
from stepflow.records import ComponentInfo, ErrorCode, Json, RunStatus, Succeeded, Task
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock, turned_backend
from stepflow_grpc.plugin import Hub, QueuePlugin, make_hub, make_plugin
from stepflow_grpc.queues.catalogue import Catalogue
from stepflow_grpc.queues.records import QueuedTask, WorkerKind
from stepflow_grpc.queues.settings import Settings

pytestmark = pytest.mark.anyio

FLOW = {"steps": [{"id": "s", "component": "/w/double", "input": {"$input": "$"}}], "output": {"$step": "s"}}
BIG_FLOW = {"steps": [{"id": "s", "component": "/big/double", "input": {"$input": "$"}}], "output": {"$step": "s"}}
ROUTES: dict[str, Any] = {"/w": [{"plugin": "work"}], "/big": [{"plugin": "work", "params": {"queueName": "large"}}]}
DOUBLE = [ComponentInfo(id="double")]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return turned_backend(request.param)


class Waits(Observer):
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.attempts: list[int] = []

    def on_event(self, run_id: str, event: Any) -> None:
        if isinstance(event, StepWaiting):
            self.reasons.append(event.reason)
        if isinstance(event, StepStarted):
            self.attempts.append(event.attempt)

    def on_progress(self, task: Task, progress: Any) -> None:
        pass


class Site:
    """An engine, its queues, and the workers that are connected to it."""

    def __init__(self, engine: Engine, plugin: QueuePlugin, hub: Hub, waits: Waits, tasks: TaskGroup) -> None:
        self.engine = engine
        self.plugin = plugin
        self.hub = hub
        self.waits = waits
        self.clock = TurnedClock()
        self.done: list[Json] = []
        self.busy = 0
        self.busiest = 0
        self._tasks = tasks

    def learn(self, queue: str = "cpu", worker: str = "w") -> None:
        self.hub.catalogue.learn(queue, worker, DOUBLE, [worker])

    def worker(self, id: str = "w", *, queue: str = "cpu", slots: int = 1, work_s: float = 1.0) -> anyio.CancelScope:
        """Connect a worker of ours; cancelled, it dies with its stream."""
        self.learn(queue, id)
        scope = anyio.CancelScope()
        self._tasks.start_soon(self._work, scope, id, queue, slots, work_s)
        return scope

    async def _work(self, scope: anyio.CancelScope, id: str, queue: str, slots: int, work_s: float) -> None:
        stream = self.hub.queues.connect(queue, id, WorkerKind.OURS, credit=slots)
        try:
            with scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._beat, id)
                    while True:
                        pulled = await stream.next()
                        if isinstance(pulled, QueuedTask):
                            self.hub.queues.heartbeat(pulled.id, id, attempt=pulled.task.attempt)
                            tasks.start_soon(self._do, pulled, work_s, stream.grant)
        finally:
            stream.disconnect()

    async def _beat(self, id: str) -> None:
        while True:
            self.hub.queues.beat(id)
            await self.clock.sleep(1)

    async def _do(self, pulled: QueuedTask, work_s: float, grant: Callable[[int], None]) -> None:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await self.clock.sleep(work_s)
        self.busy -= 1
        assert isinstance(pulled.task.input, int)
        self.done.append(pulled.task.input)
        self.hub.queues.complete(pulled.id, Succeeded(2 * pulled.task.input), attempt=pulled.task.attempt)
        grant(1)


@asynccontextmanager
async def site(store: MemoryBackend | None = None, settings: Settings | None = None, **options: Any) -> Any:
    waits = Waits()
    plugin = QueuePlugin(name="work", queue="cpu", settings=settings)
    store = store or MemoryBackend()
    async with (
        Engine(
            plugins={"work": plugin}, routes=ROUTES, store=store, clock=TurnedClock(), observers=[waits], **options
        ) as engine,
        anyio.create_task_group() as tasks,
    ):
        hub = make_hub(TurnedClock(), engine.exchange if store.is_shared else None)
        tasks.start_soon(hub.queues.run)
        plugin.attach(hub, ["large"])
        for queue in ("cpu", "large"):
            tasks.start_soon(plugin.serve_others, queue)
        yield Site(engine, plugin, hub, waits, tasks)
        tasks.cancel_scope.cancel()


@pytest.fixture
async def shared() -> MemoryBackend:
    return MemoryBackend(shared=True, clock=TurnedClock())


async def results(site: Site, inputs: list[Json], flow: Any = FLOW) -> list[Json]:
    run = await site.engine.submit(flow, inputs)
    return [result.output async for result in run.results()]


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


async def test_what_several_workers_have_is_offered_together_until_one_that_left_is_replaced() -> None:
    catalogue = make_hub(TurnedClock()).catalogue
    other = ComponentInfo(id="other")

    catalogue.learn("q", "a", DOUBLE, ["a"])
    catalogue.learn("q", "b", [other], ["a", "b"])
    both = catalogue.components("q")
    catalogue.learn("q", "c", [other], ["b", "c"])

    assert both == (*DOUBLE, other)
    assert catalogue.components("q") == (other,)


async def test_workers_of_another_engine_do_what_nobody_here_can(shared: MemoryBackend) -> None:
    async with site(shared) as bare, site(shared) as there:
        bare.learn()
        there.worker(slots=4)

        assert await results(bare, list(range(20))) == [2 * item for item in range(20)]
        assert sorted(there.done) == list(range(20))
        assert bare.done == []


async def test_what_the_workers_of_another_engine_can_do_is_known_here(shared: MemoryBackend) -> None:
    async with site(shared) as bare, site(shared) as there:
        there.worker(slots=4)

        assert await results(bare, [1, 2]) == [2, 4]
        assert bare.plugin.components({}) == there.plugin.components({}) == tuple(DOUBLE)


async def test_what_workers_say_here_comes_before_what_is_said_elsewhere_and_outlives_it() -> None:
    told: list[tuple[str, Any]] = []
    catalogue = Catalogue(lambda queue, listed: told.append((queue, listed)))
    other, mine = ComponentInfo(id="other"), ComponentInfo(id="double", description="mine")

    catalogue.learn_elsewhere("q", [[other], DOUBLE])
    first = catalogue.components("q")
    catalogue.learn("q", "a", [mine], ["a"])
    second = catalogue.components("q")
    catalogue.learn_elsewhere("q", [])

    assert first == (other, *DOUBLE)
    assert second == (other, mine)
    assert catalogue.components("q") is second
    assert told == [("q", (mine,))]


async def test_three_engines_share_the_workers_of_one(shared: MemoryBackend) -> None:
    async with site(shared) as one, site(shared) as two, site(shared) as three:
        for each in (one, two):
            each.learn()
        three.worker(slots=8)
        outputs: list[Any] = []

        async def run(each: Site, first: int) -> None:
            outputs.append(await results(each, list(range(first, first + 30))))

        async with anyio.create_task_group() as tasks:
            for number, each in enumerate((one, two, three)):
                tasks.start_soon(run, each, 100 * number)

        assert sorted(value for each in outputs for value in each) == [
            2 * (100 * n + item) for n in range(3) for item in range(30)
        ]
        assert len(three.done) == 90
        assert three.busiest == 8


async def test_the_limit_of_a_run_holds_at_the_workers_of_another_engine(shared: MemoryBackend) -> None:
    async with site(shared) as bare, site(shared) as there:
        bare.learn()
        run = await bare.engine.submit(FLOW, list(range(20)), max_concurrency=2)
        await bare.clock.sleep(30)
        waited = set(bare.waits.reasons)
        there.worker(slots=20)
        await run.wait()

        assert waited == {"no worker serves queue 'cpu'"}
        assert there.busiest <= 3  # the one that looked whether anybody serves the queue has no slot
        assert sorted(there.done) == list(range(20))


async def test_a_queue_timeout_counts_while_other_engines_are_asked(shared: MemoryBackend) -> None:
    async with site(shared, settings=Settings(queue_timeout_s=5.0)) as bare, site(shared):
        bare.learn()
        run = await bare.engine.submit(FLOW, [1])
        (result,) = [result async for result in run.results()]

    assert result.error is not None
    assert result.error.code is ErrorCode.TIMEOUT


async def test_a_worker_here_is_preferred(shared: MemoryBackend) -> None:
    async with site(shared) as here, site(shared) as there:
        here.worker(slots=20)
        there.worker(slots=20)
        await results(here, list(range(10)))

        assert there.done == []


async def test_when_a_worker_comes_back_home_the_rest_is_done_there(shared: MemoryBackend) -> None:
    async with site(shared) as here:
        here.learn()
        run = await here.engine.submit(FLOW, list(range(10)))
        await here.clock.sleep(30)
        here.worker(slots=2)
        record = await run.wait()

        assert record.status is RunStatus.COMPLETED
        assert sorted(here.done) == list(range(10))
        assert here.hub.queues.statistics()[0].depth == 0


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
