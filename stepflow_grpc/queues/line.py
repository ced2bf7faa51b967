"""Who is next: runs take turns, and within a run the oldest place comes first."""

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")

_SLACK = 64


class _Share(Generic[T]):
    __slots__ = ("items", "places", "turn")

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.places: list[int] = []
        self.items: dict[int, T] = {}

    def add(self, place: int, item: T) -> None:
        self.items[place] = item
        heappush(self.places, place)
        if len(self.places) > 2 * len(self.items) + _SLACK:
            self.places = list(self.items)
            heapify(self.places)

    def take(self) -> tuple[int, T]:
        while (place := heappop(self.places)) not in self.items:
            pass
        return place, self.items.pop(place)


class FairLine(Generic[T]):
    """Items with places, each of a run. A run that comes joins the next round; in a round the oldest run is first.

    A place is a number that nobody else has; whoever comes back with it stands where it stood.
    """

    def __init__(self) -> None:
        self._shares: dict[str, _Share[T]] = {}
        self._order: list[tuple[int, str]] = []
        self._turn = 0
        self.length = 0  # an attribute, for it is read for every task

    def add(self, run: str, place: int, item: T, *, is_back: bool = False) -> None:
        """Stand in line; `is_back`: it was taken and not served, so its run has that turn again."""
        share = self._shares.get(run)
        if share is None:
            share = self._shares[run] = _Share(self._turn + 1)
            heappush(self._order, (share.turn, run))
        if is_back and share.turn > self._turn:
            share.turn -= 1
            heappush(self._order, (share.turn, run))
        if place not in share.items:
            self.length += 1
        share.add(place, item)
        if len(self._order) > 2 * len(self._shares) + _SLACK:
            self._order = [(share.turn, run) for run, share in self._shares.items()]
            heapify(self._order)

    def remove(self, run: str, place: int) -> bool:
        """Leave the line. False: it was not there."""
        share = self._shares.get(run)
        if share is None or share.items.pop(place, None) is None:
            return False
        self.length -= 1
        self._drop_if_empty(run, share)
        return True

    def take(self) -> T | None:
        """The next one, who leaves the line; None: nobody is there."""
        while self._order:
            turn, run = heappop(self._order)
            share = self._shares.get(run)
            if share is None or share.turn != turn:
                continue
            _, item = share.take()
            self.length -= 1
            self._turn = max(self._turn, turn)
            share.turn = turn + 1
            heappush(self._order, (share.turn, run))
            self._drop_if_empty(run, share)
            return item
        return None

    def _drop_if_empty(self, run: str, share: _Share[T]) -> None:
        if not share.items:
            del self._shares[run]
