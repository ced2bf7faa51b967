"""A run in the foreground: results out as they come, signals in."""

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any

import anyio
import anyio.abc
import msgspec

from stepflow.cli.failure import INTERRUPTED, ITEM_FAILED, say
from stepflow.cli.progress import Tally, bar
from stepflow.cli.results import Results
from stepflow.engine import Engine
from stepflow.flow.model import Flow
from stepflow.records import ErrorCode, Failed, ItemResult, Json
from stepflow.stores.memory import MemoryBackend

_SHOWN_FAILURES = 5


class Job(msgspec.Struct, kw_only=True):
    """What is to be run, read and ready."""

    flow: Flow
    inputs: Iterable[Json] | AsyncIterator[Json]
    is_batch: bool
    options: dict[str, Any]  # of `Engine.run_batch`
    count: Callable[[], int | None] = lambda: 1  # how many inputs there are, where that can be told
    shows_progress: bool = False


class Execution:
    def __init__(self, job: Job, engine: Engine, tally: Tally, results: Results) -> None:
        self._job = job
        self._engine = engine
        self._tally = tally
        self._results = results
        self._is_interrupted = False
        self._failed = 0
        self._written = 0

    async def run(self) -> int:
        """Run to the end and give the exit code. A first SIGINT or SIGTERM cancels the run, a second the process."""
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
        async with (
            self._engine as engine,
            aclosing(engine.run_batch(self._job.flow, self._job.inputs, **self._job.options)) as items,
        ):
            async for item in items:
                self._take(item)

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
                say("interrupted: the run is being cancelled; interrupt once more to stop at once")
                tasks.start_soon(self._cancel, tasks)

    async def _cancel(self, tasks: anyio.abc.TaskGroup) -> None:
        run_id = self._tally.run_id
        if run_id is None:
            tasks.cancel_scope.cancel()
        else:
            await self._engine.cancel(run_id)

    def _close(self, seconds: float) -> int:
        if self._is_interrupted:
            say(f"cancelled after {self._written:,} {_items(self._written)}{self._not_kept()}")
            return INTERRUPTED
        self._results.complete()
        if self._job.is_batch:
            rate = f", {self._written / seconds:,.0f}/s" if seconds > 0 else ""
            done = f"{self._written - self._failed:,} succeeded, {self._failed:,} failed"
            say(f"{self._written:,} {_items(self._written)} in {seconds:.1f} s{rate}: {done}")
        if self._results.path is not None:
            say(f"results: {self._results.path}")
        say(f"done{self._not_kept()}" if self._not_kept() else f"stored: run {self._tally.run_id}")
        return ITEM_FAILED if self._failed else 0

    def _not_kept(self) -> str:
        is_memory = isinstance(self._engine.backend, MemoryBackend)
        return "; the run was kept in memory only and does not survive this command" if is_memory else ""


def _items(count: int) -> str:
    return "item" if count == 1 else "items"
