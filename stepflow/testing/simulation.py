"""A cluster played in one process: engines that die, stall and lose their way, over a store that fails, on a seed.

Everything happens in virtual time on one event loop, and everything that is drawn comes from the seed: a seed that
fails once fails each time, which makes it the report of the fault.
"""

import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Protocol, TypeAlias, cast

import anyio
import msgspec
from anyio.abc import TaskStatus

from stepflow.clock import SystemChance
from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import StepflowError, StoreError, StoreUnavailableError
from stepflow.execution.dispatch import PluginSource
from stepflow.execution.events import (
    Event,
    ItemEnded,
    RunEnded,
    StepDefaulted,
    StepFailed,
    StepStarted,
    StepSucceeded,
    decode_events,
)
from stepflow.execution.options import FlowLike, RecoverySettings
from stepflow.execution.verdict import RetrySettings
from stepflow.protocols import Backend, Clock
from stepflow.records import ItemResult, Json, RunId, Task
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock
from stepflow.testing.faults import FaultyBackend
from stepflow.testing.loop import VirtualLoop

KEY = "simulated"

_STOPPING_S = 0.3
"""How long, on average, an engine that is told to stop lives on."""

_LONGEST_S = 3_600.0
"""Virtual time after which a run that has not ended never will."""


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong, and how often. Rates are probabilities for each call of the store; times are virtual seconds."""

    delay_s: float = 0.05  # a call takes up to so long
    lost_rate: float = 0.03  # a call fails and did nothing
    torn_rate: float = 0.03  # a call did its work, and its answer is lost
    kill_after_s: float = 10.0  # an engine dies, on average, after so long; a new one starts soon
    stall_rate: float = 0.02  # with a call all of its engine's stand still, longer than until it is taken for dead
    jump_s: float = 30.0  # an engine's clock may jump by up to so much, forward or back
    stop_rate: float = 0.3  # an engine is told to stop instead, in good order, and dies in the midst of that or not
    refusal_rate: float = 0.01  # with a commit its engine can't write any more for up to `refusal_s`; it can read
    refusal_s: float = 8.0
    kills: int = 6  # deaths and stops in all; after them nothing more goes wrong


USUAL = Faults()


class Beside(Protocol):
    """What plays beside the engines of a simulation, such as workers: of one seed."""

    def plugins(self) -> Mapping[str, PluginSource]:
        """Those of one engine's life."""
        ...

    @property
    def routes(self) -> Mapping[str, Json]: ...

    def attend(self, engine: Engine) -> AbstractAsyncContextManager[None]:
        """Around the time that an engine is open. Where it dies, the body is cancelled."""
        ...

    async def play(self) -> None:
        """What goes on all the time. Until it is cancelled."""
        ...


MakeBeside: TypeAlias = Callable[[random.Random, Clock, Faults], Beside]
"""From whom everything is drawn, the time, and what goes wrong."""


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """What one seed came to."""

    seed: int
    events: tuple[tuple[RunId, Event], ...]  # the journal of each run, in the order of their ids
    results: tuple[ItemResult, ...]
    seen: tuple[tuple[RunId, Event], ...]  # what observers of the engines were told to be durable
    kills: int
    virtual_s: float


class SimulationError(StepflowError):
    """A seed came to another end than the uncut run, or its journal tells of something impossible."""

    def __init__(self, seed: int, problem: str) -> None:
        super().__init__(f"seed {seed}: {problem}; simulate(…, seeds=[{seed}]) shows it again")
        self.seed = seed
        self.problem = problem

    def __reduce__(self) -> "tuple[type[SimulationError], tuple[int, str]]":
        return type(self), (self.seed, self.problem)


def simulate(
    flow: FlowLike,
    inputs: Sequence[Json],
    *,
    components: Components | Mapping[str, Components] | None = None,
    seeds: Iterable[int] = range(100),
    engines: int = 2,
    faults: Faults = USUAL,
    beside: MakeBeside | None = None,
) -> list[Simulated]:
    """Run a flow on each seed by several engines that fail, and hold what comes of it against an uncut run.

    Components must be async functions (a thread's time is real), answer the same to the same input, and may be called
    again where an engine died. `beside` makes what else there is, such as workers. Every seed must give the same
    results as the run without faults; no step may begin again after its outcome was recorded; every item and the run
    end once.

    Raises:
        SimulationError: the first seed that did not.
    """
    quiet = msgspec.structs.replace(faults, lost_rate=0, torn_rate=0, stall_rate=0, refusal_rate=0, jump_s=0, kills=0)
    played_by = partial(_Cluster, flow, inputs, components, beside)
    expected = _play(partial(played_by, 0, 1, quiet))
    played = []
    for seed in seeds:
        one = _play(partial(played_by, seed, engines, faults))
        if one.results != expected.results:
            raise SimulationError(seed, f"its results are {_shown(one)} and not {_shown(expected)}")
        problem = _impossible(one.events) or _lost(one)
        if problem is not None:
            raise SimulationError(seed, problem)
        played.append(one)
    return played


def _shown(simulated: Simulated) -> str:
    return repr([result.output if result.ok else result.error for result in simulated.results])[:500]


def _play(cluster: "Callable[[], _Cluster]") -> Simulated:
    async def play() -> Simulated:
        return await cluster().play()

    logger = logging.getLogger("stepflow")
    level, logger.level = logger.level, logging.CRITICAL  # every fault is logged, and they are many
    try:
        return anyio.run(play, backend="asyncio", backend_options={"loop_factory": VirtualLoop})
    finally:
        logger.setLevel(level)


class _Cluster:
    """Engines over one store in memory, until their run has ended."""

    def __init__(
        self,
        flow: FlowLike,
        inputs: Sequence[Json],
        components: Components | Mapping[str, Components] | None,
        beside: MakeBeside | None,
        seed: int,
        engines: int,
        faults: Faults,
    ) -> None:
        self.flow = flow
        self.inputs = inputs
        self.components = components
        self.seed = seed
        self.engines = engines
        self.faults = faults
        self.draw = random.Random(seed)
        self.clock = TurnedClock()
        self.store = MemoryBackend(shared=True, clock=self.clock, keep_events=True)
        self.beside = None if beside is None else beside(self.draw, self.clock, faults)
        self.kills = 0
        self.seen = _Seen()
        self.is_over = anyio.Event()
        self.lives: dict[anyio.Event, None] = {}  # each is told when to stop

    async def play(self) -> Simulated:
        with anyio.move_on_after(_LONGEST_S) as time:
            async with anyio.create_task_group() as tasks:
                playing = await tasks.start(self._play_beside)
                async with anyio.create_task_group() as running:
                    for number in range(self.engines):
                        running.start_soon(self._keep_running, number)
                    root_id = await self._ended()
                    self._end()
                playing.cancel()
        if time.cancelled_caught:
            raise SimulationError(self.seed, f"the run has not ended after {_LONGEST_S:g} virtual seconds")
        results = await self.store.results(root_id, limit=len(self.inputs) + 1)
        return Simulated(
            seed=self.seed,
            events=tuple([pair async for pair in self._journals()]),
            results=tuple(results),
            seen=tuple(self.seen.events),
            kills=self.kills,
            virtual_s=self.clock.elapsed_s,
        )

    async def _play_beside(self, *, task_status: TaskStatus[anyio.CancelScope]) -> None:
        with anyio.CancelScope() as scope:
            task_status.started(scope)
            if self.beside is not None:
                await self.beside.play()

    async def _ended(self) -> RunId:
        while True:
            record = await self.store.find_key(KEY)
            if record is not None and record.status.is_terminal:
                return record.id
            await self.clock.sleep(1.0)

    def _end(self) -> None:
        self.is_over.set()
        for stopped in self.lives:
            stopped.set()

    async def _keep_running(self, number: int) -> None:
        """An engine, and another each time it dies or stops."""
        while not self.is_over.is_set():
            seat = FaultyBackend(self.store, self.faults, self.draw, self.clock)
            stopped = anyio.Event()
            self.lives[stopped] = None
            async with self._mortal(seat, stopped):
                await self._live(seat, number, stopped)
            del self.lives[stopped]
            if not self.is_over.is_set():
                await self.clock.sleep(self.draw.uniform(0.1, 3.0))

    @asynccontextmanager
    async def _mortal(self, seat: FaultyBackend, stopped: anyio.Event) -> AsyncIterator[None]:
        """While inside, death may come: from then on the store hears nothing more from here."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._kill, seat, stopped, tasks.cancel_scope)
            yield
            tasks.cancel_scope.cancel()

    async def _kill(self, seat: FaultyBackend, stopped: anyio.Event, scope: anyio.CancelScope) -> None:
        await self.clock.sleep(self.draw.expovariate(1 / self.faults.kill_after_s))
        if self.kills >= self.faults.kills:
            seat.heal()
            return
        self.kills += 1
        if self.faults.stop_rate and self.draw.random() < self.faults.stop_rate:
            stopped.set()
            await self.clock.sleep(self.draw.expovariate(1 / _STOPPING_S))
        seat.die()
        scope.cancel()

    async def _live(self, seat: FaultyBackend, number: int, stopped: anyio.Event) -> None:
        chance = SystemChance(seed=self.draw.getrandbits(32))
        while not stopped.is_set():
            try:
                async with self._engine(seat, chance) as engine, self._attended(engine):
                    if number == 0:
                        await self._submit(engine, stopped)
                    await stopped.wait()
            except* StoreError:
                await self.clock.sleep(0.5)  # it could not be opened: as a program that is started again would

    def _attended(self, engine: Engine) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self.beside is None else self.beside.attend(engine)

    def _engine(self, seat: Backend, chance: SystemChance) -> Engine:
        return Engine(
            self.components,
            plugins=None if self.beside is None else self.beside.plugins(),
            routes=None if self.beside is None else self.beside.routes,
            store=seat,
            clock=_JumpingClock(self.clock, self.draw, self.faults.jump_s),
            chance=chance,
            observers=[self.seen],
            recovery=RecoverySettings(checkpoint_interval=self.draw.choice((5, 20, 10_000))),
            # Here no step is to blame for the death of its engine or its worker.
            retry=RetrySettings(recovery_max=1_000, transport_max_retries=1_000),
        )

    async def _submit(self, engine: Engine, stopped: anyio.Event) -> None:
        while not stopped.is_set():
            try:
                await engine.submit(self.flow, list(self.inputs), key=KEY)
                return
            except StoreUnavailableError:
                await self.clock.sleep(0.2)

    async def _journals(self) -> AsyncIterator[tuple[RunId, Event]]:
        for record in sorted(await self.store.list(limit=1_000_000), key=lambda record: record.id):
            for row in await self.store.history(record.id, limit=1_000_000):
                for event in decode_events(row.payload):
                    yield record.id, event


class _Seen:
    """Keeps what the engines call durable."""

    def __init__(self) -> None:
        self.events: list[tuple[RunId, Event]] = []

    def on_event(self, run_id: RunId, event: object) -> None:
        self.events.append((run_id, cast(Event, event)))

    def on_progress(self, task: Task, progress: Json) -> None:
        pass


class _JumpingClock:
    """A clock whose time of day is wrong, and changes: only how long things take can be relied on."""

    def __init__(self, clock: TurnedClock, draw: random.Random, jump_s: float) -> None:
        self._clock = clock
        self._draw = draw
        self._jump_s = jump_s
        self._offset = draw.uniform(-jump_s, jump_s)
        self.sleep = clock.sleep
        self.timeout = clock.timeout
        self.busy = clock.busy

    def now(self) -> float:
        if self._jump_s and self._draw.random() < 0.001:
            self._offset = self._draw.uniform(-self._jump_s, self._jump_s)
        return self._clock.now() + self._offset


def _lost(simulated: Simulated) -> str | None:
    """What somebody was told to be durable, and no journal tells; None: nothing."""
    kept: dict[RunId, list[Event]] = {}
    for run_id, event in simulated.events:
        kept.setdefault(run_id, []).append(event)
    for run_id, event in simulated.seen:
        if event not in kept.get(run_id, ()):
            return f"run {run_id}: an engine said that {event} is durable, and it is lost"
    return None


def _impossible(events: Sequence[tuple[RunId, Event]]) -> str | None:
    """What the journals tell that can't be; None: all is well."""
    finished: dict[tuple[RunId, int, int], None] = {}
    items: dict[tuple[RunId, int], None] = {}
    ended: dict[RunId, None] = {}
    for run_id, event in events:
        if run_id in ended:
            return f"run {run_id} goes on after its end, with {event}"
        match event:
            case StepStarted(item, step) if (run_id, item, step) in finished:
                return f"run {run_id}: step {step} of item {item} began again after its outcome was recorded"
            case StepSucceeded(item, step) | StepFailed(item, step) | StepDefaulted(item, step):
                if (run_id, item, step) in finished:
                    return f"run {run_id}: step {step} of item {item} has two outcomes"
                finished[run_id, item, step] = None
            case ItemEnded(item):
                if (run_id, item) in items:
                    return f"run {run_id}: item {item} ended twice"
                items[run_id, item] = None
            case RunEnded():
                ended[run_id] = None
            case _:
                pass
    lasting = {run_id for run_id, _ in events} - ended.keys()
    return f"run {min(lasting)} never ended" if lasting else None
