"""Deadlines that a late look does not shorten."""

from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, Protocol, TypeVar

import anyio

from stepflow.protocols import Clock

TICK_S = 0.5
"""How often to look at least while there are deadlines, so that a look that came late is noticed as such."""

_SLACK = 64

LATE_S = 0.1
"""What a loop may be late without anybody's deadline moving."""


class Watched(Protocol):
    """Something with a deadline, of which it has one at a time."""

    due_at: float


T = TypeVar("T", bound=Watched)


class Deadlines(Generic[T]):
    """Calls back when a deadline is over. Times are of `now`, which stands still while the process was held up.

    A look that comes late moves every deadline by its lateness, and the next look is twice as much away, at most a
    tick: what arrived meanwhile is heard before anybody is given up for silence.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lost_s = 0.0
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0
        self._stale = 0  # of the heap: replaced by an earlier one, or dropped
        self._bell: anyio.Event | None = None
        self._wakes_at = inf

    def now(self) -> float:
        return self._clock.now() - self._lost_s

    def set(self, watched: T, at: float) -> None:
        """Look at it at this time at the latest. A later time than the one that is set changes nothing."""
        if at >= watched.due_at:
            return
        if watched.due_at < inf:
            self._stale += 1
        watched.due_at = at
        self._count += 1
        heappush(self._heap, (at, self._count, watched))
        if at < self._wakes_at and self._bell is not None:
            self._bell.set()

    def drop(self, watched: T) -> None:
        """It needs no look any more, and nothing keeps it."""
        if watched.due_at == inf:
            return
        watched.due_at = inf
        self._stale += 1
        if self._stale > len(self._heap) // 2 + _SLACK:
            self._heap = [each for each in self._heap if each[2].due_at == each[0]]
            heapify(self._heap)
            self._stale = 0

    def due(self) -> list[T]:
        """Those whose time is over, each once; they have no deadline any more."""
        now = self.now()
        found: list[T] = []
        while self._heap and self._heap[0][0] <= now:
            at, _, watched = heappop(self._heap)
            if watched.due_at == at:
                watched.due_at = inf
                found.append(watched)
            else:
                self._stale -= 1
        return found

    async def wait(self) -> None:
        """Return when a look is due, in time or not."""
        least_s = 0.0
        while True:
            wait_s = max(self._next_s(), least_s)
            if wait_s <= 0:
                return
            late_s = await self._sleep(wait_s)
            least_s = 0.0
            if late_s > LATE_S:
                self._lost_s += late_s
                least_s = min(2 * late_s, TICK_S)

    def _next_s(self) -> float:
        return self._heap[0][0] - self.now() if self._heap else inf

    async def _sleep(self, seconds: float) -> float:
        """Sleep so long, at most a tick, or until an earlier deadline is set; how late that ended."""
        self._bell = anyio.Event()
        seconds = min(seconds, TICK_S) if seconds < inf else inf
        self._wakes_at = self.now() + seconds
        if seconds == inf:
            await self._bell.wait()
            self._bell = None
            return 0.0
        until = self._clock.now() + seconds
        with self._clock.timeout(seconds):
            await self._bell.wait()
        self._bell = None
        return self._clock.now() - until
