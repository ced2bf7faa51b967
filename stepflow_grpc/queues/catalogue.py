"""Which components the workers of each queue have."""

from collections.abc import Sequence

import anyio

from stepflow.records import ComponentInfo


class Catalogue:
    """What workers said, by queue. An unchanged list is the same object, as routing wants it."""

    def __init__(self) -> None:
        self._told: dict[str, dict[str, tuple[ComponentInfo, ...]]] = {}
        self._lists: dict[str, tuple[ComponentInfo, ...]] = {}
        self._news: dict[str, anyio.Event] = {}

    def learn(self, queue: str, worker_id: str, components: Sequence[ComponentInfo], connected: Sequence[str]) -> bool:
        """A worker says what it has. False: nothing new.

        Args:
            connected: the workers of this queue. Whatever others had said is forgotten only now, when somebody else
                speaks: until then their components are waited for rather than unknown.
        """
        told = self._told.get(queue, {})
        self._told[queue] = told = {id: told[id] for id in told if id in connected and id != worker_id}
        told[worker_id] = tuple(components)
        found = {info.id: info for each in told.values() for info in each}
        listed = tuple(found.values())
        if self._lists.get(queue) == listed:
            return False
        self._lists[queue] = listed
        self._news.pop(queue, anyio.Event()).set()
        return True

    def components(self, queue: str) -> Sequence[ComponentInfo] | None:
        """What can be called there; None while nobody said anything."""
        return self._lists.get(queue)

    def ring(self, queue: str) -> None:
        """Let everybody who waits look why."""
        self._news.pop(queue, anyio.Event()).set()

    async def wait(self, queue: str) -> None:
        """Return once something is known, or after `ring`."""
        if queue not in self._lists:
            await self._news.setdefault(queue, anyio.Event()).wait()
