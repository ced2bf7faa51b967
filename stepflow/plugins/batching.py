"""Calls that are collected and made together."""

import anyio
from anyio.abc import TaskGroup

from stepflow.components import Batch
from stepflow.plugins.calling import PerformAll
from stepflow.protocols import Host
from stepflow.records import Outcome, Task

BATCH = "a batch"
"""Why a call waits that was collected."""


class _Waiting:
    """A call that waits for its batch."""

    __slots__ = ("answered", "outcome", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.answered = anyio.Event()
        self.outcome: Outcome | BaseException | None = None


class _Collected:
    """The calls of one batch, until it is made and answered."""

    __slots__ = ("calls", "host", "is_made", "scope", "timer")

    def __init__(self, host: Host) -> None:
        self.host = host
        self.calls: dict[_Waiting, None] = {}
        self.is_made = False
        self.scope = anyio.CancelScope()
        self.timer = anyio.CancelScope()


class Collector:
    """Collects the calls of one component. They wait without a slot; the batch runs beside the slots.

    A call that is cancelled leaves its batch; the last one to leave cancels it.
    """

    def __init__(self, batch: Batch, perform_all: PerformAll, tasks: TaskGroup) -> None:
        self._batch = batch
        self._perform_all = perform_all
        self._tasks = tasks
        self._open: _Collected | None = None

    async def perform(self, task: Task, host: Host) -> Outcome:
        call = _Waiting(task)
        async with host.waiting(task, BATCH):
            collected = self._join(call, host)
            try:
                await call.answered.wait()
            except BaseException:
                self._leave(call, collected)
                raise
        if isinstance(call.outcome, BaseException):
            raise call.outcome
        assert call.outcome is not None
        return call.outcome

    def _join(self, call: _Waiting, host: Host) -> _Collected:
        collected = self._open
        if collected is None:
            collected = self._open = _Collected(host)
            self._tasks.start_soon(self._make_in_time, collected)
        collected.calls[call] = None
        if len(collected.calls) >= self._batch.size:
            self._close(collected)
            self._tasks.start_soon(self._make, collected)
        return collected

    def _leave(self, call: _Waiting, collected: _Collected) -> None:
        if not collected.is_made:
            collected.calls.pop(call, None)
        call.answered.set()
        if all(other.answered.is_set() for other in collected.calls):
            self._close(collected)
            collected.scope.cancel()

    def _close(self, collected: _Collected) -> None:
        if self._open is collected:
            self._open = None
            collected.timer.cancel()

    async def _make_in_time(self, collected: _Collected) -> None:
        with collected.timer:
            await collected.host.clock.sleep(self._batch.wait_ms / 1000)
        if self._open is collected:
            self._open = None
            await self._make(collected)

    async def _make(self, collected: _Collected) -> None:
        collected.is_made = True
        calls = list(collected.calls)
        outcomes: list[Outcome | BaseException]
        with collected.scope:
            try:
                outcomes = [*await self._perform_all([call.task for call in calls], collected.host)]
            except Exception as error:  # noqa: BLE001 - raised where the calls wait
                outcomes = [error] * len(calls)
            for call, outcome in zip(calls, outcomes, strict=True):
                call.outcome = outcome
                call.answered.set()
