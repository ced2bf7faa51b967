"""An engine whose steps wait in queues, and workers that are connected to it, over a clock that is turned."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from stepflow.engine import Engine
from stepflow.execution.events import StepStarted, StepWaiting
from stepflow.protocols import Observer
from stepflow.records import ComponentInfo, Json, Succeeded, Task
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock
from stepflow_grpc.plugin import Hub, QueuePlugin, make_hub
from stepflow_grpc.queues.records import QueuedTask, WorkerKind
from stepflow_grpc.queues.settings import Settings

FLOW = {"steps": [{"id": "s", "component": "/w/double", "input": {"$input": "$"}}], "output": {"$step": "s"}}
BIG_FLOW = {"steps": [{"id": "s", "component": "/big/double", "input": {"$input": "$"}}], "output": {"$step": "s"}}
ROUTES: dict[str, Any] = {"/w": [{"plugin": "work"}], "/big": [{"plugin": "work", "params": {"queueName": "large"}}]}
DOUBLE = [ComponentInfo(id="double")]


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


async def results(site: Site, inputs: list[Json], flow: Any = FLOW) -> list[Json]:
    run = await site.engine.submit(flow, inputs)
    return [result.output async for result in run.results()]
