"""What steps wait for. A wait that lasts is written down, so that whoever asks why a run stands still is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anyio.abc import TaskGroup

from stepflow.execution.live import LiveRun
from stepflow.protocols import Clock

NOTED_AFTER_S = 1.0

SUB_RUN = "sub-run"
"""The reason of a wait that the journal tells of in any case."""


_NOTED = object()


class _Wait:
    __slots__ = ("item", "reason", "run", "since", "step")

    def __init__(self, run: LiveRun, item: int, step: int, reason: str, since: float) -> None:
        self.run = run
        self.item = item
        self.step = step
        self.reason = reason
        self.since = since


class Waits:
    """Every wait that is not written down yet, oldest first. One task looks after all of them, while there are any."""

    def __init__(self, clock: Clock, tasks: TaskGroup, note: Callable[[LiveRun, int, int, str], None]) -> None:
        self._clock = clock
        self._tasks = tasks
        self._note = note
        self._waits: dict[_Wait, object] = {}
        self._is_watched = False

    @contextmanager
    def of(self, run: LiveRun, item: int, step: int, reason: str) -> Iterator[None]:
        if reason == SUB_RUN:
            yield
            return
        wait = _Wait(run, item, step, reason, self._clock.now())
        self._waits[wait] = None
        if not self._is_watched:
            self._is_watched = True
            self._tasks.start_soon(self._watch)
        try:
            yield
        finally:
            if self._waits.pop(wait, _NOTED) is _NOTED:
                self._note(run, item, step, "")

    async def _watch(self) -> None:
        while self._waits:
            oldest = next(iter(self._waits))
            left_s = oldest.since + NOTED_AFTER_S - self._clock.now()
            if left_s > 0:
                await self._clock.sleep(left_s)
                continue
            del self._waits[oldest]
            self._note(oldest.run, oldest.item, oldest.step, oldest.reason)
        self._is_watched = False
