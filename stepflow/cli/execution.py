"""A run in the foreground: results out as they come, signals in."""

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import TypeAlias

import anyio
import anyio.abc

from stepflow.cli.failure import ITEM_FAILED, say
from stepflow.cli.impatience import INTERRUPTED
from stepflow.cli.interrupts import heed_interrupts
from stepflow.cli.job import Submitted
from stepflow.cli.place import Place, is_newest, short_id
from stepflow.cli.progress import Tally, bar
from stepflow.cli.results import OutputError, Results
from stepflow.engine import Engine
from stepflow.errors import InputInvalidError
from stepflow.protocols import Backend
from stepflow.records import ErrorCode, Failed, ItemResult, RunId, RunStatus

_SHOWN_FAILURES = 5
_BROKEN_OFF = (InputInvalidError, OSError)
"""What reading inputs may raise after the run has begun."""


Begin: TypeAlias = Callable[[Engine, Tally, bool], Awaitable[Submitted]]
"""Submits the run once the engine is open; told whether an earlier command left results half written."""


class Execution:
    """One run from its command line to its last line.

    Args:
        place: the store; None: memory.
        count: how many items there will be, where that can be told.
    """

    def __init__(
        self,
        begin: Begin,
        engine: Engine,
        tally: Tally,
        results: Results,
        *,
        place: Place | None = None,
        is_batch: bool = True,
        shows_progress: bool = False,
        count: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._begin = begin
        self._engine = engine
        self._tally = tally
        self._results = results
        self._place = place
        self._is_batch = is_batch
        self._shows_progress = shows_progress
        self._count = count
        self._submitted: Submitted | None = None
        self._work: anyio.CancelScope | None = None  # set once the engine is open
        self._show = "stepflow runs show last"
        self.left_to_another: RunId | None = None
        self._is_interrupted = False
        self._failed = 0
        self._written = 0

    async def run(self) -> int:
        """Run to the end and give the exit code.

        A first SIGINT or SIGTERM cancels a run that nothing could go on with, and leaves another one as it is; a second
        ends the process.
        """
        began, failure = time.monotonic(), None
        if self._shows_progress:
            self._tally.total = self._count()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heed_interrupts, partial(self._heed, tasks))
            try:
                with bar(self._tally, shown=self._shows_progress):
                    await self._take_all()
            except Exception as error:  # noqa: BLE001  # raised below, without the task group around it
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            self._say_broken_off(failure)
            raise failure
        return self._close(time.monotonic() - began)

    async def _take_all(self) -> None:
        async with self._engine as engine:
            with anyio.CancelScope() as self._work:
                await self._take_results(engine)

    async def _take_results(self, engine: Engine) -> None:
        self._results.prepare()
        self._submitted = submitted = await self._begin(engine, self._tally, self._results.was_cut)
        if submitted.is_left:
            self.left_to_another = submitted.run.id
            return
        self._results.begin()
        try:
            async with aclosing(submitted.run.results()) as items:
                async for item in items:
                    self._take(item)
        except _BROKEN_OFF:
            if not submitted.is_named:
                await submitted.run.cancel()
            raise
        except OutputError:
            if submitted.again is None:  # nothing could go on with it
                await submitted.run.cancel()
            raise
        finally:
            if self._place is None:
                submitted.run.cancel_now()
        await self._look_back(engine.backend, submitted.run.id)

    async def _look_back(self, backend: Backend, run_id: RunId) -> None:
        record = await backend.runs.get(run_id)
        if record is not None and record.status is RunStatus.CANCELLED and not self._is_interrupted:
            say(f"the run was cancelled when {record.succeeded + record.failed:,} of its items had ended")
        if not await is_newest(backend, run_id):
            self._show = f"stepflow runs show {await short_id(backend, run_id)}"

    def _take(self, item: ItemResult) -> None:
        error = item.error
        if self._is_interrupted and error is not None and error.code is ErrorCode.CANCELLED:
            return
        self._results.write(item.outcome)
        self._written += 1
        if error is not None:
            self._failed += 1
            if self._failed <= _SHOWN_FAILURES:
                say(self._failure_line(item.index, error))

    def _failure_line(self, index: int, error: Failed) -> str:
        which = f"item {index} " if self._is_batch else ""
        step = self._tally.failed_step(index, error)
        at = f' at step "{self._submitted.steps[step]}"' if step is not None and self._submitted is not None else ""
        more = "; more failures are in the results" if self._failed == _SHOWN_FAILURES and self._is_batch else ""
        message = " ".join(error.message.removeprefix(f"item {index}: ").split())
        return f"{which}failed{at}: {error.code.value}: {message}{more}"

    async def _heed(self, tasks: anyio.abc.TaskGroup) -> None:
        self._is_interrupted = True
        say(f"interrupted: {self._doing()}; interrupt once more to stop at once")
        tasks.start_soon(self._stop, tasks)

    def _say_broken_off(self, error: Exception) -> None:
        submitted = self._submitted
        if self._place is None or submitted is None:
            return
        if isinstance(error, OutputError) and submitted.again is not None:
            say(f"stored in {self._place.name}: {submitted.again}")
        if not isinstance(error, _BROKEN_OFF):
            return
        done = f"{self._written:,} {_items(self._written)} had ended"
        ended = f"stored in {self._place.name}: the inputs broke off when {done}"
        if submitted.is_named:
            say(f"{ended}; mend them, and type the same line again to go on")
        else:
            say(
                f"{ended}, and the run was cancelled, since with other inputs the line means another one (give a --key)"
            )

    def _doing(self) -> str:
        if self._is_cancelled_by_interrupt:
            return "the run is being cancelled"
        return "stopping; what was done is stored"

    @property
    def _is_cancelled_by_interrupt(self) -> bool:
        """A run that nothing could go on with must not stay unfinished for ever."""
        if self._place is None:
            return True
        submitted = self._submitted
        return submitted is not None and submitted.again is None

    async def _stop(self, tasks: anyio.abc.TaskGroup) -> None:
        """Where the run is left unfinished, only closing the engine is left, which is not cancelled itself."""
        run_id = self._tally.run_id
        if run_id is None or not self._is_cancelled_by_interrupt:
            (self._work or tasks.cancel_scope).cancel()
        else:
            await self._engine.cancel(run_id)

    def _close(self, seconds: float) -> int:
        if self._is_interrupted:
            return INTERRUPTED
        if self._submitted is not None and self._submitted.is_left:
            return 0
        self._results.complete()
        if self._is_batch:
            here = self._written - (self._submitted.before if self._submitted is not None else 0)
            rate = f", {here / seconds:,.0f}/s" if seconds > 0 and here > 0 else ""
            done = f"{self._written - self._failed:,} succeeded, {self._failed:,} failed"
            say(f"{self._written:,} {_items(self._written)} in {seconds:.1f} s{rate}: {done}")
        if self._results.path is not None:
            say(f"results: {self._results.path}")
        return ITEM_FAILED if self._failed else 0

    def last_line(self) -> str:
        """What became of the run, and what can be typed next."""
        if self._place is None:
            ended = f"cancelled after {self._written:,} {_items(self._written)}" if self._is_interrupted else "done"
            return f"{ended}; the run was kept in memory only and does not survive this command"
        stored = f"stored in {self._place.name}"
        if self._submitted is None and self._tally.run_id is not None:
            return f"{stored}, and left to its engine: {self._place.line(f'stepflow runs show {self._tally.run_id}')}"
        if self._submitted is None:
            return "interrupted before anything was stored"
        if self._is_interrupted:
            if self._submitted.again is None:
                return f"{stored}: cancelled, since inputs from stdin cannot be told again (give a --key)"
            return f"{stored}: {self._submitted.again}"
        return f"{stored}: {self._place.line(self._show)}"


def _items(count: int) -> str:
    return "item" if count == 1 else "items"
