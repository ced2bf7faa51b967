"""Queues and workers for `stepflow.testing.simulate`: `simulate(…, beside=partial(QueueWorkers, work=…))`.

The queues are the server's own. Between them and the workers there is no network but one that is played: what workers
say is lost, comes late, twice and out of order; workers pause longer than they may be silent, die and come back, lose
their connections and find another orchestrator.
"""

import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import anyio
from anyio.abc import TaskGroup

from stepflow.engine import Engine
from stepflow.execution.dispatch import PluginSource
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.protocols import Clock
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Succeeded, TaskId
from stepflow.testing.simulation import Faults
from stepflow_grpc.answers import Answers, Verdict
from stepflow_grpc.plugin import Hub, QueuePlugin, make_hub
from stepflow_grpc.queues.records import Heard, QueuedTask, Taken, WorkerKind
from stepflow_grpc.queues.settings import Settings
from stepflow_grpc.queues.stream import Stream

QUEUE = "simulated"
ROUTE = "/queue"

TROUBLES = 200
"""How often something goes wrong in all; then the workers are as they should be, so that every run comes to its end."""

_LOST = object()


class QueueWorkers:
    """Orchestrators' queues, and workers that are connected to one of them at a time.

    Steps reach them at `/queue/NAME` for each component of `components`.

    Args:
        work: what a worker answers to a component and its input.
        components: what each of them can do.
        workers: how many there are; half of them behave as upstream's.
        slots: how many tasks one works on at a time.
        is_apart: all of them are connected to the same orchestrator, so that the others have none of their own.
        settings: the limits of their tasks.
        strays: answers may come to an orchestrator that waits for none, which hands them to whoever drives the run.
    """

    def __init__(
        self,
        draw: random.Random,
        clock: Clock,
        faults: Faults,
        *,
        work: Callable[[str, Json], Json],
        components: Sequence[str] = ("work",),
        workers: int = 3,
        slots: int = 2,
        is_apart: bool = False,
        strays: bool = True,
        settings: Settings | None = None,
    ) -> None:
        self.draw = draw
        self.clock = clock
        self.work = work
        self.components = [ComponentInfo(id=name) for name in components]
        self.slots = slots
        self.rate = faults.lost_rate + faults.torn_rate
        self.troubles = TROUBLES if faults.kills else 0
        self.sites: list[_Site] = []
        self.opened = anyio.Event()
        self.is_apart = is_apart
        self.strays = strays
        self.settings = settings
        self._workers = workers

    @property
    def routes(self) -> Mapping[str, Json]:
        return {ROUTE: [{"plugin": "queue"}], "/builtin": [{"plugin": "builtin"}]}

    def plugins(self) -> Mapping[str, PluginSource]:
        return {"queue": QueuePlugin(name="queue", queue=QUEUE, settings=self.settings), "builtin": BuiltinPlugin()}

    @asynccontextmanager
    async def attend(self, engine: Engine) -> AsyncIterator[None]:
        plugin = engine.plugins()["queue"]
        assert isinstance(plugin, QueuePlugin)
        site = _Site(make_hub(self.clock, engine.exchange), engine)
        plugin.attach(site.hub)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(site.hub.queues.run)
            tasks.start_soon(plugin.serve_others, QUEUE)
            self.sites.append(site)
            self.opened.set()
            try:
                yield
            finally:
                self.sites.remove(site)
                self.opened = anyio.Event() if not self.sites else self.opened
                site.close()
                tasks.cancel_scope.cancel()

    async def play(self) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(self._workers):
                kind = WorkerKind.UPSTREAM if number % 2 else WorkerKind.OURS
                tasks.start_soon(_Worker(self, f"worker-{number}", kind, tasks).live)

    def goes_wrong(self, rate: float | None = None) -> bool:
        """Whether something goes wrong here; it counts."""
        if self.troubles <= 0 or self.draw.random() >= (self.rate if rate is None else rate):
            return False
        self.troubles -= 1
        return True


class _Site:
    """One orchestrator's queues, and the connections to them."""

    def __init__(self, hub: Hub, engine: Engine) -> None:
        self.hub = hub
        self.answers = Answers(engine, hub.queues)
        self.is_open = True
        self.scopes: dict[anyio.CancelScope, None] = {}

    @contextmanager
    def connection(self) -> Iterator[None]:
        """What is inside is left when the orchestrator is gone."""
        with anyio.CancelScope() as scope:
            self.scopes[scope] = None
            try:
                yield
            finally:
                del self.scopes[scope]

    def close(self) -> None:
        """The orchestrator is gone: its connections break."""
        self.is_open = False
        for scope in tuple(self.scopes):
            scope.cancel()


class _Worker:
    """A worker, and another in its place each time it dies."""

    def __init__(self, world: QueueWorkers, name: str, kind: WorkerKind, network: TaskGroup) -> None:
        self._world = world
        self._name = name
        self._kind = kind
        self._network = network
        self._lives = 0
        self._has: dict[TaskId, None] = {}
        self._paused_until = 0.0

    @property
    def _id(self) -> str:
        return f"{self._name}-{self._lives}"

    async def live(self) -> None:
        world = self._world
        while True:
            self._lives += 1
            self._has.clear()
            async with anyio.create_task_group() as life:
                life.start_soon(self._serve, life)
                await self._misfortune()
                life.cancel_scope.cancel()
            await world.clock.sleep(world.draw.uniform(0.1, 3.0))

    async def _misfortune(self) -> None:
        """Pause from time to time, and return when death comes; where nothing goes wrong any more, never."""
        world = self._world
        while True:
            await world.clock.sleep(world.draw.expovariate(1 / 15))
            if world.goes_wrong(0.3):
                return
            if world.goes_wrong(0.3):
                self._paused_until = world.clock.now() + world.draw.uniform(1.0, 20.0)

    async def _serve(self, life: TaskGroup) -> None:
        """Stay connected to some orchestrator."""
        world = self._world
        while True:
            await world.opened.wait()
            site = world.sites[0] if world.is_apart else world.draw.choice(world.sites)
            with site.connection():
                await self._pull(site, life)
            await world.clock.sleep(world.draw.uniform(0.05, 1.0))

    async def _pull(self, site: _Site, life: TaskGroup) -> None:
        world = self._world
        credit = max(0, world.slots - len(self._has))
        stream = site.hub.queues.connect(QUEUE, self._id, self._kind, credit=credit)
        site.hub.catalogue.learn(QUEUE, self._id, world.components, [self._id])
        try:
            async with anyio.create_task_group() as tasks:
                if self._kind is WorkerKind.OURS:
                    tasks.start_soon(self._beat, site, stream)
                with anyio.move_on_after(world.draw.uniform(5.0, 60.0) if world.goes_wrong(0.5) else None):
                    while True:
                        pulled = await stream.next()
                        if isinstance(pulled, QueuedTask):
                            life.start_soon(self._work, pulled, site, stream)
                tasks.cancel_scope.cancel()
        except anyio.EndOfStream:
            pass
        finally:
            if site.is_open:
                self._cut(site, stream)

    def _cut(self, site: _Site, stream: Stream) -> None:
        """The orchestrator sees at once that a connection is gone, or late: half of one stays open."""
        world = self._world
        if world.goes_wrong(0.3):
            self._network.start_soon(self._cut_late, site, stream)
        else:
            site.hub.queues.disconnect(stream)

    async def _cut_late(self, site: _Site, stream: Stream) -> None:
        await self._world.clock.sleep(self._world.draw.uniform(1.0, 15.0))
        if site.is_open:
            site.hub.queues.disconnect(stream)

    async def _beat(self, site: _Site, stream: Stream) -> None:
        while stream.is_open:
            await self._pause()
            site.hub.queues.beat(self._id)
            site.hub.queues.reconcile(self._id, tuple(self._has))
            await self._world.clock.sleep(1.0)

    async def _work(self, queued: QueuedTask, site: _Site, stream: Stream) -> None:
        is_known = queued.id in self._has
        heard = await self._say(site, lambda: self._heartbeat(site, queued))
        if heard is Heard.IN_PROGRESS and not is_known:
            self._has[queued.id] = None
            await self._perform(queued, site)
            await self._answer(queued, site)
            self._has.pop(queued.id, None)
        if self._kind is WorkerKind.OURS and stream.is_open and site.is_open:
            stream.grant(1)

    async def _perform(self, queued: QueuedTask, site: _Site) -> None:
        """Take some time; whoever beats for each task does so meanwhile."""
        world = self._world
        seconds = world.draw.uniform(0.0, 6.0)
        while seconds > 0:
            await world.clock.sleep(min(1.0, seconds))
            await self._pause()
            seconds -= 1.0
            if self._kind is WorkerKind.UPSTREAM:
                await self._say(site, lambda: self._heartbeat(site, queued))

    async def _answer(self, queued: QueuedTask, site: _Site) -> None:
        """Until it is heard, to whichever orchestrator there is; some time it is given up."""
        world = self._world
        outcome: Outcome = Succeeded(world.work(queued.task.target, queued.task.input))
        if world.goes_wrong():
            outcome = Failed(ErrorCode.TIMEOUT, "the worker lost it")
        for _ in range(5):
            is_lost = not site.is_open or (world.strays and world.goes_wrong())
            home = world.draw.choice(world.sites) if is_lost and world.sites else site
            heard = await self._say(home, partial(self._complete, home, queued, outcome))
            if heard is Taken.UNKNOWN and world.strays:
                heard = await self._answer_later(home, queued, outcome)
            if isinstance(heard, Taken) or heard in (Verdict.RECORDED, Verdict.NOBODY):
                return
            await world.clock.sleep(2.0)

    async def _answer_later(self, home: _Site, queued: QueuedTask, outcome: Outcome) -> object:
        """Nobody waits for it there; `_LOST` where the orchestrator goes before it has said what comes of it."""
        task, answer = queued.task, _LOST
        with home.connection():
            for _ in range(2 if self._world.goes_wrong() else 1):
                answer = await home.answers.later(task.run_id, task.id, outcome, attempt=self._attempt(queued))
        return _LOST if self._world.goes_wrong() else answer

    def _heartbeat(self, site: _Site, queued: QueuedTask) -> Heard:
        return site.hub.queues.heartbeat(queued.id, self._id, attempt=self._attempt(queued))

    def _complete(self, site: _Site, queued: QueuedTask, outcome: Outcome) -> Taken:
        return site.hub.queues.complete(queued.id, outcome, attempt=self._attempt(queued), worker_id=self._id)

    def _attempt(self, queued: QueuedTask) -> int | None:
        """One of upstream does not say which attempt it speaks of."""
        return queued.task.attempt if self._kind is WorkerKind.OURS else None

    async def _say(self, site: _Site, message: Callable[[], object]) -> object:
        """What is answered; `_LOST` where the message or its answer was lost, or nobody is there any more."""
        world = self._world
        await self._pause()
        await world.clock.sleep(world.draw.uniform(0.0, 0.02))
        if world.goes_wrong():
            return _LOST
        if world.goes_wrong():
            self._network.start_soon(self._say_late, site, message)  # doubled, and after what is said later
        if world.goes_wrong():
            await world.clock.sleep(world.draw.uniform(0.5, 10.0))
        if not site.is_open:
            return _LOST
        answer = message()
        return _LOST if world.goes_wrong() else answer

    async def _say_late(self, site: _Site, message: Callable[[], object]) -> None:
        await self._world.clock.sleep(self._world.draw.uniform(0.5, 20.0))
        if site.is_open:
            message()

    async def _pause(self) -> None:
        """Wait while the process stands still."""
        while (left_s := self._paused_until - self._world.clock.now()) > 0:
            await self._world.clock.sleep(left_s)
