"""What components report of their own work, told to the servers that the tasks are from."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from stepflow.protocols import Clock
from stepflow.records import Json, TaskId
from stepflow_grpc.worker.running import RunningTasks, Work

logger = logging.getLogger("stepflow.worker")

PROGRESS_EVERY_S = 1.0
"""How often a task's progress is told at most."""

LONGEST_PROGRESS = 64 * 1024
"""Bytes of it as JSON."""


class ProgressTeller:
    """Tells the last of what is reported, not too often.

    Args:
        start: begins what is to go on by itself.
    """

    def __init__(self, desk: RunningTasks, clock: Clock, *, start: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._desk = desk
        self._clock = clock
        self._start = start

    def tell(self, task_id: TaskId, progress: Json) -> None:
        """What is reported too soon after another waits, and the last of that is told."""
        work = self._desk.at_work(task_id)
        if work is None:
            return
        size = len(msgspec.json.encode(progress))
        if size > LONGEST_PROGRESS:
            logger.warning("the progress of task %s is not told: it has %d bytes as JSON", task_id, size)
            return
        is_waiting, work.untold = bool(work.untold), (progress,)
        wait_s = work.told_at + PROGRESS_EVERY_S - self._clock.now()
        if wait_s <= 0 and not is_waiting:
            self._tell(work)
        elif not is_waiting:
            self._start(self._tell_later(work, wait_s))

    async def _tell_later(self, work: Work, wait_s: float) -> None:
        await self._clock.sleep(wait_s)
        if self._desk.at_work(work.given.id) is work:
            self._tell(work)

    def _tell(self, work: Work) -> None:
        (progress,), work.untold = work.untold, ()
        work.told_at = self._clock.now()
        work.link.progress(work.given, progress)
