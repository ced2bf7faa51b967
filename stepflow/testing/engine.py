"""An engine for tests: components played by scripts, time that turns by itself, everything that happened at hand."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack

import anyio.to_thread

from stepflow.clock import SystemChance
from stepflow.engine import Engine
from stepflow.execution.events import Event
from stepflow.execution.handle import Run
from stepflow.execution.options import FlowLike, SubmitOptions
from stepflow.records import ItemResult, Json, RunId, RunRecord, Task
from stepflow.testing.application import Application, read_application
from stepflow.testing.clock import TurnedClock
from stepflow.testing.loop import VirtualLoop
from stepflow.testing.script import Answer, Script, ScriptedPlugin, UnscriptedError

T = TypeVar("T")


class ScriptedEngine:
    """Runs flows in a test, blocking. The clock jumps to the next timer whenever nothing else can happen.

    Everything runs on the thread that calls, and only while it calls: between two calls nothing moves.

    Args:
        application: what is not scripted goes there.
        seed: of everything that is drawn. Two engines with equal seeds do the same.
        folder: where the path of a flow is looked for when the current directory does not have it.
    """

    def __init__(
        self, application: Application | None = None, *, seed: int = 0, folder: str | os.PathLike[str] | None = None
    ) -> None:
        self._application = application or read_application()
        self._folder = None if folder is None else Path(folder)
        self._loop = VirtualLoop()
        self._runner = asyncio.Runner(loop_factory=lambda: self._loop)
        self._turned = TurnedClock(self._loop.turn)
        self._chance = SystemChance(seed)
        self._watch = _Watch()
        self._plugin = ScriptedPlugin(self._application.table, self._application.sources)
        self._engine: Engine | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.clock = HandClock(self, self._turned)

    @property
    def events(self) -> list[Event]:
        """What happened so far, in all runs, in order."""
        return self._watch.events

    @property
    def seen(self) -> list[tuple[RunId, Event]]:
        """The same, each event with its run; sub-runs are runs of their own."""
        return self._watch.seen

    def events_of(self, run_id: RunId) -> list[Event]:
        """What happened so far in one run, in order."""
        return [event for id, event in self._watch.seen if id == run_id]

    def script(self, path: str, answers: Sequence[Answer] | Callable[[Json], Answer]) -> None:
        """Play a component: a list with the answer to each call in turn, or one function for all calls.

        An answer is an output, an exception that the component raises, a `Failed`, or a function of the input that
        gives one of these. A later script for the same path replaces the earlier one.
        """
        self._plugin.scripts[path] = Script(path, answers)

    def calls(self, path: str) -> list[Json]:
        """The inputs that the component was called with, every attempt, in order."""
        return list(self._plugin.calls.get(path, ()))

    def run(self, flow: FlowLike, input: Json = None, **options: Unpack[SubmitOptions]) -> ItemResult:
        """Run a flow for one input: `ok`, `output` and `error` say what came of it. A failure does not raise.

        Raises:
            UnscriptedError: the flow called a component that is neither scripted nor registered.
            FlowInvalidError, InputInvalidError: nothing was started.
        """
        __tracebackhide__ = True
        return self.run_batch(flow, [input], **options)[0]

    def run_batch(self, flow: FlowLike, inputs: Iterable[Json], **options: Unpack[SubmitOptions]) -> list[ItemResult]:
        """Run a flow for many inputs, and give every result, in order. Raises as `run` does."""
        __tracebackhide__ = True
        return self.submit(flow, list(inputs), **options).results()

    def submit(self, flow: FlowLike, inputs: Sequence[Json], **options: Unpack[SubmitOptions]) -> "ScriptedRun":
        """Start a run; it goes on while the clock is turned or its results are waited for."""
        __tracebackhide__ = True
        run = self.do(lambda engine: engine.submit(self._found(flow), inputs, **options))
        return ScriptedRun(self, run)

    def do(self, ask: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """Ask the engine itself anything, such as `do(lambda engine: engine.list_runs())`.

        Raises:
            ClockStoppedError: the answer needs time to go on, and the clock is turned by hand.
            RuntimeError: the caller is async, and would be blocked.
        """
        __tracebackhide__ = True
        _refuse_inside_a_loop()
        return self._runner.run(self._asked(ask))

    def check(self) -> None:
        """Raises: UnscriptedError: a component was called that is neither scripted nor registered, or too often."""
        __tracebackhide__ = True
        faults, self._plugin.faults = self._plugin.faults, []
        if faults:
            raise UnscriptedError("\n".join(faults))

    def close(self) -> None:
        """End what still runs, and the loop. Raises what `check` raises."""
        __tracebackhide__ = True
        keeper, self._keeper = self._keeper, None
        try:
            if keeper is not None:
                keeper.cancel()
                self._runner.run(_ended(keeper))
        finally:
            self._runner.close()
            self._loop.close()
        self.check()

    def __enter__(self) -> "ScriptedEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _found(self, flow: FlowLike) -> FlowLike:
        if self._folder is None or not isinstance(flow, str | os.PathLike) or Path(flow).exists():
            return flow
        beside = self._folder / flow
        return beside if beside.exists() else flow

    async def _asked(self, ask: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        engine = self._engine or await self._open()
        assert self._keeper is not None
        answer = asyncio.ensure_future(ask(engine))
        turn = self._loop.turn
        stuck = asyncio.Event()
        turn.on_stuck = stuck.set
        waiting = asyncio.ensure_future(stuck.wait())
        try:
            await asyncio.wait({answer, waiting, self._keeper}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if self._keeper.done():
                self._keeper.result()
            raise ClockStoppedError(
                "nothing more can happen until the clock is turned: use submit(), then clock.advance(), then results()"
            )
        finally:
            turn.on_stuck = None
            waiting.cancel()
            answer.cancel()

    async def _open(self) -> Engine:
        opened = asyncio.Event()
        self._keeper = asyncio.ensure_future(self._keep(opened))
        waiting = asyncio.ensure_future(opened.wait())
        await asyncio.wait({waiting, self._keeper}, return_when=asyncio.FIRST_COMPLETED)
        if self._engine is None:
            waiting.cancel()
            await self._keeper
        assert self._engine is not None
        return self._engine

    async def _keep(self, opened: asyncio.Event) -> None:
        """Hold the engine open in one task, as task groups want it."""
        self._loop.turn.watch(anyio.to_thread.current_default_thread_limiter())
        async with Engine(
            plugins={"test": self._plugin},
            routes={"/{*component}": [{"plugin": "test"}]},
            retry=self._application.retry,
            clock=self._turned,
            chance=self._chance,
            observers=[self._watch],
        ) as engine:
            self._engine = engine
            opened.set()
            await asyncio.Event().wait()


class ClockStoppedError(AssertionError):
    """The clock is turned by hand, and nobody turns it."""


class ScriptedRun:
    """A run that was submitted in a test."""

    def __init__(self, engine: ScriptedEngine, run: Run) -> None:
        self.id = run.id
        self._engine = engine
        self._run = run

    def record(self) -> RunRecord:
        """What is known of the run now."""
        return self._engine.do(lambda _: self._run.record())

    def results(self) -> list[ItemResult]:
        """Wait for the end, and give every result, in order."""
        __tracebackhide__ = True
        results = self._engine.do(lambda _: self._results())
        self._engine.check()
        return results

    def cancel(self) -> None:
        """End the run at once."""
        self._engine.do(lambda _: self._run.cancel())

    async def _results(self) -> list[ItemResult]:
        return [result async for result in self._run.results()]


class HandClock:
    """The clock of a test: it turns by itself until `manual` is called."""

    def __init__(self, engine: ScriptedEngine, clock: TurnedClock) -> None:
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

    def advance(self, seconds: float) -> None:
        """Turn the clock: every timer until then fires in its turn. Returns when nothing more happens then."""
        __tracebackhide__ = True
        self._engine.do(lambda _: self._clock.advance(seconds))


class _Watch:
    """Keeps what the engine tells its observers."""

    def __init__(self) -> None:
        self.seen: list[tuple[RunId, Event]] = []

    @property
    def events(self) -> list[Event]:
        return [event for _, event in self.seen]

    def on_event(self, run_id: RunId, event: Any) -> None:
        self.seen.append((run_id, event))

    def on_progress(self, task: Task, progress: Json) -> None:
        """Progress is not an event."""


def _refuse_inside_a_loop() -> None:
    if _is_looping():
        raise RuntimeError(
            "this engine blocks: in an async test use the fixture stepflow_async_engine and await its methods"
        )


def _is_looping() -> bool:
    """Whether the caller runs inside asyncio or Trio."""
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    if "trio" in sys.modules:
        import trio

        with suppress(RuntimeError):
            trio.lowlevel.current_trio_token()
            return True
    return False


async def _ended(task: "asyncio.Task[None]") -> None:
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
