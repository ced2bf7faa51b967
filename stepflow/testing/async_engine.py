"""The engine for tests, with methods to await."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar, Unpack

import anyio
import anyio.to_thread

from stepflow.execution.events import Event
from stepflow.execution.options import FlowLike, SubmitOptions
from stepflow.records import ItemResult, Json, RunId, RunRecord
from stepflow.testing.engine import HandClock, ScriptedEngine, ScriptedRun
from stepflow.testing.script import Answer

T = TypeVar("T")


class AsyncScriptedEngine:
    """A `ScriptedEngine` for async tests, on asyncio and Trio.

    The flows run on a loop of their own, with virtual time, beside the test's; while a call is awaited, the test's
    loop goes on in real time. Calls are made one after the other.
    """

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine
        self._turns = anyio.Lock()
        self.clock = AsyncHandClock(self, engine.clock)

    @property
    def events(self) -> list[Event]:
        """What happened so far, in all runs, in order."""
        return self._engine.events

    def events_of(self, run_id: RunId) -> list[Event]:
        """What happened so far in one run, in order."""
        return self._engine.events_of(run_id)

    def script(self, path: str, answers: Sequence[Answer] | Callable[[Json], Answer]) -> None:
        """Play a component, as `ScriptedEngine.script` does. Functions are called on the flows' loop."""
        self._engine.script(path, answers)

    def calls(self, path: str) -> list[Json]:
        """The inputs that the component was called with, every attempt, in order."""
        return self._engine.calls(path)

    async def run(self, flow: FlowLike, input: Json = None, **options: Unpack[SubmitOptions]) -> ItemResult:
        """Run a flow for one input. A failure does not raise; see `ScriptedEngine.run`."""
        __tracebackhide__ = True
        return await self.wait(lambda engine: engine.run(flow, input, **options))

    async def run_batch(
        self, flow: FlowLike, inputs: Iterable[Json], **options: Unpack[SubmitOptions]
    ) -> list[ItemResult]:
        """Run a flow for many inputs, and give every result, in order."""
        __tracebackhide__ = True
        return await self.wait(lambda engine: engine.run_batch(flow, inputs, **options))

    async def submit(
        self, flow: FlowLike, inputs: Sequence[Json], **options: Unpack[SubmitOptions]
    ) -> "AsyncScriptedRun":
        """Start a run; it goes on while the clock is turned or its results are waited for."""
        __tracebackhide__ = True
        return AsyncScriptedRun(self, await self.wait(lambda engine: engine.submit(flow, inputs, **options)))

    async def wait(self, ask: Callable[[ScriptedEngine], T]) -> T:
        """Ask the blocking engine in a thread of its own."""
        __tracebackhide__ = True
        async with self._turns:
            return await anyio.to_thread.run_sync(partial(ask, self._engine))


class AsyncScriptedRun:
    """A run that was submitted in an async test."""

    def __init__(self, engine: AsyncScriptedEngine, run: ScriptedRun) -> None:
        self.id = run.id
        self._engine = engine
        self._run = run

    async def record(self) -> RunRecord:
        """What is known of the run now."""
        return await self._engine.wait(lambda _: self._run.record())

    async def results(self) -> list[ItemResult]:
        """Wait for the end, and give every result, in order."""
        __tracebackhide__ = True
        return await self._engine.wait(lambda _: self._run.results())

    async def cancel(self) -> None:
        """End the run at once."""
        await self._engine.wait(lambda _: self._run.cancel())


class AsyncHandClock:
    """The clock of an async test: it turns by itself until `manual` is called."""

    def __init__(self, engine: AsyncScriptedEngine, clock: HandClock) -> None:
        self._engine = engine
        self._clock = clock

    @property
    def elapsed_s(self) -> float:
        """Seconds that the clock has gone since the test began."""
        return self._clock.elapsed_s

    def now(self) -> float:
        """Seconds since the epoch, as the engine sees them."""
        return self._clock.now()

    def manual(self) -> None:
        """From now on time goes on only by `advance`."""
        self._clock.manual()

    def automatic(self) -> None:
        """From now on time jumps by itself again."""
        self._clock.automatic()

    async def advance(self, seconds: float) -> None:
        """Turn the clock: every timer until then fires in its turn."""
        __tracebackhide__ = True
        await self._engine.wait(lambda _: self._clock.advance(seconds))
