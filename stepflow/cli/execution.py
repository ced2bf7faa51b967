"""A run in the foreground: results out as they come, signals in."""

import os
import signal
import sys
import time
from contextlib import aclosing

import anyio
import anyio.abc

from stepflow.cli.failure import INTERRUPTED, ITEM_FAILED, say
from stepflow.cli.job import Job
from stepflow.cli.progress import Tally, bar
from stepflow.cli.results import Results
from stepflow.cli.resuming import Submitted, submit
from stepflow.engine import Engine
from stepflow.records import ErrorCode, Failed, ItemResult

_SHOWN_FAILURES = 5


class Execution:
    """One run from its command line to its last line.

    Args:
        place: the store, as people call it; None: memory.
    """

    def __init__(self, job: Job, engine: Engine, tally: Tally, results: Results, *, place: str | None = None) -> None:
        self._job = job
        self._engine = engine
        self._tally = tally
        self._results = results
        self._place = place
        self._submitted: Submitted | None = None
        self._is_interrupted = False
        self._failed = 0
        self._written = 0

    async def run(self) -> int:
        """Run to the end and give the exit code.

        A first SIGINT or SIGTERM cancels a run in memory, and leaves a stored one as it is; a second ends the process.
        """
        began, failure = time.monotonic(), None
        if self._job.shows_progress:
            self._tally.total = self._job.count()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._heed_signals, tasks)
            try:
                with bar(self._tally, shown=self._job.shows_progress):
                    await self._take_all()
            except Exception as error:  # noqa: BLE001  # raised below, without the task group around it
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return self._close(time.monotonic() - began)

    async def _take_all(self) -> None:
        async with self._engine as engine:
            self._results.prepare()
            self._submitted = await submit(engine, self._job, self._tally, was_cut=self._results.was_cut)
            self._results.begin()
            run = self._submitted.run
            try:
                async with aclosing(run.results()) as items:
                    async for item in items:
                        self._take(item)
            finally:
                if self._place is None:
                    run.cancel_now()

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
        which = f"item {index} " if self._job.is_batch else ""
        step = self._tally.failed_step(index, error)
        at = f' at step "{self._job.flow.steps[step].id}"' if step is not None else ""
        more = "; more failures are in the results" if self._failed == _SHOWN_FAILURES and self._job.is_batch else ""
        message = " ".join(error.message.removeprefix(f"item {index}: ").split())
        return f"{which}failed{at}: {error.code.value}: {message}{more}"

    async def _heed_signals(self, tasks: anyio.abc.TaskGroup) -> None:
        if sys.platform == "win32":
            return
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if self._is_interrupted:
                    os._exit(INTERRUPTED)
                self._is_interrupted = True
                doing = "the run is being cancelled" if self._place is None else "stopping; what was done is stored"
                say(f"interrupted: {doing}; interrupt once more to stop at once")
                tasks.start_soon(self._stop, tasks)

    async def _stop(self, tasks: anyio.abc.TaskGroup) -> None:
        """A stored run is left unfinished: closing the engine is all that ends here."""
        run_id = self._tally.run_id
        if run_id is None or self._place is not None:
            tasks.cancel_scope.cancel()
        else:
            await self._engine.cancel(run_id)

    def _close(self, seconds: float) -> int:
        if self._is_interrupted:
            return INTERRUPTED
        self._results.complete()
        if self._job.is_batch:
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
        if self._submitted is None:
            return "interrupted before anything was stored"
        return f"stored in {self._place}{self._next(self._submitted)}"

    def _next(self, submitted: Submitted) -> str:
        again = "the same line without --new" if self._job.is_new else "the same line again"
        over = "" if self._job.is_new else ", or --new to start over"
        if submitted.key is None and self._is_interrupted:
            return "; inputs from stdin cannot be told again: give such a run a --key to go on with it"
        if self._is_interrupted:
            return f": type {again} to go on{over}"
        if self._job.key is not None:
            return f": type {again} for these results{over}"
        return ": the same line again starts a new run"


def _items(count: int) -> str:
    return "item" if count == 1 else "items"
