"""A run at a server in the foreground: results out as they come, signals in."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import TypeAlias

import anyio
import anyio.abc
import msgspec

from stepflow.cli.failure import COULD_NOT_RUN, ITEM_FAILED, say
from stepflow.cli.impatience import INTERRUPTED
from stepflow.cli.interrupts import heed_interrupts
from stepflow.cli.progress import bar
from stepflow.cli.results import OutputError, Results
from stepflow.errors import StepflowError
from stepflow.protocols import Clock
from stepflow.records import ErrorCode, ItemResult, RunRecord, RunStatus
from stepflow_grpc.client.client import Client
from stepflow_grpc.client.errors import ServerBusyError, ServerUnavailableError
from stepflow_grpc.client.remote_run import RemoteRun

_SHOWN_FAILURES = 5
_LOOK_S = 0.5
_FOREVER_S = 1e9

Begin: TypeAlias = Callable[[Client], Awaitable[RemoteRun]]
"""Submits the run, or finds it."""


class Count:
    """What the bar shows."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.ended = 0
        self.failed = 0

    def take(self, record: RunRecord) -> None:
        self.total = record.total if record.total is not None else self.total
        self.ended = max(self.ended, record.succeeded + record.failed)
        self.failed = max(self.failed, record.failed)


class Watch:
    """One run from its command line to its last line. Leaving it leaves the run as it is.

    Args:
        place: how the server is named on the command line, for lines that can be typed; empty where it need not be.
        count: how many items there will be, where that is known.
        wait_s: how long results are waited for; None: until the end.
    """

    def __init__(
        self,
        client: Client,
        begin: Begin,
        results: Results,
        clock: Clock,
        *,
        place: str = "",
        is_batch: bool = True,
        is_detached: bool = False,
        says_json: bool = False,
        shows_progress: bool = False,
        count: int | None = None,
        wait_s: float | None = None,
    ) -> None:
        self._client = client
        self._begin = begin
        self._results = results
        self._clock = clock
        self._place = place
        self._is_batch = is_batch
        self._is_detached = is_detached
        self._says_json = says_json
        self._shows_progress = shows_progress
        self._count = Count(count)
        self._wait_s = wait_s
        self._run: RemoteRun | None = None
        self._record: RunRecord | None = None
        self._is_interrupted = False
        self._written = 0
        self._failed = 0

    async def run(self) -> int:
        """Watch to the end and give the exit code. A first SIGINT or SIGTERM leaves the run, a second the process."""
        began, failure = self._clock.now(), None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heed_interrupts, partial(self._heed, tasks))
            try:
                with bar(self._count, shown=self._shows_progress):
                    await self._take_all(tasks)
            except Exception as error:  # noqa: BLE001  # raised below, without the task group around it
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            if self._run is not None and isinstance(failure, ServerUnavailableError | ServerBusyError | OutputError):
                say(self._goes_on(may=not isinstance(failure, OutputError)))
            raise failure
        return self._close(self._clock.now() - began)

    async def _take_all(self, tasks: anyio.abc.TaskGroup) -> None:
        async with self._client as client:
            if not self._is_detached:
                self._results.prepare()
            self._run = run = await self._begin(client)
            if self._is_detached:
                return
            say(f"run_id: {run.id}")
            self._results.begin()
            if self._shows_progress:
                tasks.start_soon(self._look, run)
            with self._clock.timeout(self._wait_s or _FOREVER_S):
                async with aclosing(run.results()) as results:
                    async for result in results:
                        await self._take(run, result)
                self._record = await run.record()

    async def _look(self, run: RemoteRun) -> None:
        """How far the run is, for the bar: results come in the order of the inputs, and late."""
        while True:
            try:
                self._count.take(await run.record())
            except StepflowError:  # the results say it too
                return
            await self._clock.sleep(_LOOK_S)

    async def _take(self, run: RemoteRun, result: ItemResult) -> None:
        self._results.write(result.outcome)
        self._written += 1
        self._count.ended = max(self._count.ended, self._written)
        if result.error is not None:
            self._failed += 1
            if self._failed <= _SHOWN_FAILURES:
                say(await self._failure_line(run, result))

    async def _failure_line(self, run: RemoteRun, result: ItemResult) -> str:
        error = result.error
        assert error is not None
        which = f"item {result.index} " if self._is_batch else ""
        step = None if error.code is ErrorCode.CANCELLED else await run.failed_step(result.index)
        at = f' at step "{step}"' if step is not None else ""
        more = "; more failures are in the results" if self._failed == _SHOWN_FAILURES and self._is_batch else ""
        message = " ".join(error.message.removeprefix(f"item {result.index}: ").split())
        return f"{which}failed{at}: {error.code.value}: {message}{more}"

    async def _heed(self, tasks: anyio.abc.TaskGroup) -> None:
        self._is_interrupted = True
        tasks.cancel_scope.cancel()

    def _close(self, seconds: float) -> int:
        if self._run is None:
            say("interrupted before the server said that it had the run")
            return INTERRUPTED
        if self._is_detached:
            say(self._goes_on())
            return 0
        if self._record is None:
            return self._left()
        self._results.complete()
        self._say_end(self._record, seconds)
        return ITEM_FAILED if self._failed else 0

    @property
    def handle(self) -> str | None:
        """What a caller that does not wait wants to know: the run's id. None: nobody asked, or there is no run."""
        if not self._is_detached or self._run is None:
            return None
        return self._json() if self._says_json else self._run.id

    def _left(self) -> int:
        """Watching has ended before the run."""
        got = f"{self._written:,} {_items(self._written)} so far"
        why = "interrupted" if self._is_interrupted else f"not done after {self._wait_s:g} s"
        say(f"{why}, with the results of {got}")
        say(self._goes_on())
        return INTERRUPTED if self._is_interrupted else COULD_NOT_RUN

    def _goes_on(self, *, may: bool = False) -> str:
        assert self._run is not None
        id = self._run.id
        typed = f"stepflow submit{self._place}"
        verb = "may go on" if may else "goes on"
        follow, cancel = f"`{typed} --follow {id}` gives its results", f"`{typed} --cancel {id}` ends it"
        return f"the run {verb} at {self._client.address}: {follow}, {cancel}"

    def _say_end(self, record: RunRecord, seconds: float) -> None:
        if record.status is RunStatus.CANCELLED:
            say(f"the run was cancelled when {record.succeeded + record.failed:,} of its items had ended")
        if self._is_batch:
            rate = f", {self._written / seconds:,.0f}/s" if seconds > 0 and self._written else ""
            done = f"{self._written - self._failed:,} succeeded, {self._failed:,} failed"
            say(f"{self._written:,} {_items(self._written)} in {seconds:.1f} s{rate}: {done}")
        if self._results.path is not None:
            say(f"results: {self._results.path}")
        say(self._json() if self._says_json else f"run {record.id} at {self._client.address}: {record.status.value}")

    def _json(self) -> str:
        """The run as one JSON object."""
        assert self._run is not None
        told: dict[str, object] = {"runId": self._run.id, "flowId": self._run.flow_id, "url": str(self._client.address)}
        if self._record is not None:
            told |= {
                "status": self._record.status.value,
                "total": self._written,
                "succeeded": self._written - self._failed,
                "failed": self._failed,
            }
        return msgspec.json.encode(told).decode()


def _items(count: int) -> str:
    return "item" if count == 1 else "items"
