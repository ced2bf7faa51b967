"""How many tasks a worker does at a time."""

import asyncio
from collections import deque


class Slots:
    """So many at a time. Who gave one back for a while gets one again before anything new does."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0
        self._returning: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """How many can be taken for something new."""
        return 0 if self._returning else max(0, self.total - self.taken)

    def take(self) -> None:
        """For something new, where one is free."""
        self.taken += 1

    def resize(self, total: int) -> None:
        """So many from now on. Those that are taken beyond it go as they are given back."""
        self.total = total
        while self.taken < self.total and self._returning:
            place = self._returning.popleft()
            if not place.done():
                self.taken += 1
                place.set_result(None)

    def give_back(self) -> None:
        while self._returning and self.taken <= self.total:
            place = self._returning.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.taken -= 1

    async def take_again(self) -> None:
        """Wait for one, behind those that wait already."""
        if self.taken < self.total and not self._returning:
            self.taken += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returning.append(place)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self.give_back()
            elif place in self._returning:
                self._returning.remove(place)
            raise
