"""The slots that a root run and its sub-runs share, and the steps that may start."""

from collections import deque
from heapq import heappop, heappush
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import anyio

from stepflow.records import Lease


class Member(Protocol):
    """A run, as its tree sees it."""

    @property
    def number(self) -> int: ...

    free: int | None  # slots of its own, within the tree's; None: only the tree's
    parked: list[Any]  # entries that wait for one of them

    def may_open(self) -> bool:
        """Whether another item may begin."""
        ...

    def openable(self) -> int:
        """How many of those that may."""
        ...


R = TypeVar("R", bound=Member)

Entry: TypeAlias = tuple[int, int, int, R]
"""A step that may start: item, step, the run's number in its tree, the run."""


class Tree(Generic[R]):
    """A root run and its sub-runs: they share slots, and a heap of steps that may start.

    A slot is a token: whatever only waits gives it back. The heap is ordered by item, then step, then run, so that
    the first item is pushed forward before the second.
    """

    def __init__(self, limit: int, lease: Lease) -> None:
        self.limit = limit
        self.lease = lease  # of runs that begin in it
        self.free = limit
        self.is_held = False  # nothing begins: the run is paused, or not to be driven here
        self.runs: dict[int, R] = {}
        self.is_listed = False  # the executor knows that something can be taken here
        self.sleeping = 0  # steps that wait for their next attempt
        self.lent: dict[tuple[int, int, int], int] = {}  # by run, item and step: waits of steps that are done elsewhere
        self.performing = 0  # steps that a runner is busy with, whether they hold a slot or not
        self._heap: list[Entry[R]] = []
        self._returning: deque[anyio.Event] = deque()
        self._numbers = 0

    def add(self, run: R) -> int:
        self._numbers += 1
        self.runs[self._numbers] = run
        return self._numbers

    def remove(self, run: R) -> None:
        self.runs.pop(run.number, None)

    def push(self, run: R, ready: list[tuple[int, int]]) -> None:
        number, heap = run.number, self._heap
        for item, step in ready:
            heappush(heap, (item, step, number, run))

    @property
    def has_ready(self) -> bool:
        return bool(self._heap)

    def startable(self) -> int:
        """How many steps could be taken one after the other, if there were slots enough."""
        run = self.admitting()
        return len(self._heap) + (0 if run is None else run.openable())

    def admitting(self) -> R | None:
        """The run whose next item should begin: sub-runs first, since somebody waits for them."""
        if self.is_held:
            return None
        for run in reversed(self.runs.values()):
            if run.may_open():
                return run
        return None

    def take(self) -> Entry[R] | None:
        """The next step that may start, with a slot for it; None when there is none."""
        while self._heap and not self.is_held:
            entry = heappop(self._heap)
            run = entry[3]
            if run.free is None:
                self.free -= 1
                return entry
            if run.free > 0:
                run.free -= 1
                self.free -= 1
                return entry
            run.parked.append(entry)
        return None

    def give_back(self, run: R) -> None:
        """A slot is free again; whoever waits to go on comes before new steps."""
        if run.free is not None:
            run.free += 1
            if run.parked:
                heappush(self._heap, run.parked.pop(0))
        if self._returning:
            self._returning.popleft().set()
        else:
            self.free += 1

    async def take_again(self, run: R) -> None:
        """Wait for a slot, to go on with a step that gave its own back."""
        if run.free is not None:
            run.free -= 1
        if self.free > 0:
            self.free -= 1
            return
        turn = anyio.Event()
        self._returning.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.free += 1
            else:
                self._returning.remove(turn)
            if run.free is not None:
                run.free += 1
            raise
