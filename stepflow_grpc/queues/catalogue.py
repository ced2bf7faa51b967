"""Which components the workers of each queue have."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import anyio

from stepflow.records import ComponentInfo, ErrorCode, Failed

Tell: TypeAlias = Callable[[str, Sequence[ComponentInfo]], None]


class Catalogue:
    """What workers said, by queue. An unchanged list is the same object, as routing wants it.

    Args:
        tell: called with what the workers of a queue have here, whenever that changed.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        self._tell = tell
        self._own: dict[str, tuple[ComponentInfo, ...]] = {}
        self._told: dict[str, dict[str, tuple[ComponentInfo, ...]]] = {}
        self._names: dict[str, dict[str, frozenset[str] | None]] = {}
        self._lists: dict[str, tuple[ComponentInfo, ...]] = {}
        self._elsewhere: dict[str, tuple[ComponentInfo, ...]] = {}
        self._news: dict[str, anyio.Event] = {}

    def learn(self, queue: str, worker_id: str, components: Sequence[ComponentInfo], connected: Sequence[str]) -> bool:
        """A worker says what it has. False: nothing new.

        Args:
            connected: the workers of this queue, with those that may be back soon. Whatever others had said is
                forgotten only now, when somebody else speaks: until then their components are waited for rather than
                unknown.
        """
        told = self._told.get(queue, {})
        self._told[queue] = told = {id: told[id] for id in told if id in connected and id != worker_id}
        told[worker_id] = tuple(components)
        self._names[queue] = {id: _names(infos) for id, infos in told.items()}
        found = {info.id: info for each in told.values() for info in each}
        own = tuple(found.values())
        if self._own.get(queue) == own:
            return False
        self._own[queue] = own
        self._list(queue)
        if self._tell is not None:
            self._tell(queue, own)
        return True

    def learn_elsewhere(self, queue: str, lists: Sequence[Sequence[ComponentInfo]]) -> None:
        """What the workers of other engines have. None of them: what was known is waited for rather than unknown."""
        if lists:
            self._elsewhere[queue] = tuple(info for each in lists for info in each)
            self._list(queue)

    def _list(self, queue: str) -> None:
        """A component that workers here and elsewhere have is as those here say."""
        known = (*self._elsewhere.get(queue, ()), *self._own.get(queue, ()))
        listed = tuple({info.id: info for info in known}.values())
        if self._lists.get(queue) != listed:
            self._lists[queue] = listed
            self._news.pop(queue, anyio.Event()).set()

    def components(self, queue: str) -> Sequence[ComponentInfo] | None:
        """What can be called there; None while nobody said anything."""
        return self._lists.get(queue)

    def lacks(self, queue: str, worker_id: str, component: str) -> Failed | None:
        """The outcome of a task that a worker can't do, from what it said; None: it can, or has not said anything."""
        has = self._names.get(queue, {}).get(worker_id)
        if has is None or component in has:
            return None
        text = f"worker {worker_id!r} has no component {component!r}, and no other of queue {queue!r} has"
        return Failed(ErrorCode.COMPONENT_NOT_FOUND, text)

    def is_only_elsewhere(self, queue: str, component: str) -> bool:
        """Whether workers of other engines have a component, and none of those that spoke here."""
        here = self._names.get(queue)
        if not here or any(has is None or component in has for has in here.values()):
            return False
        elsewhere = _names(self._elsewhere.get(queue, ()))
        return elsewhere is None or component in elsewhere

    def ring(self, queue: str) -> None:
        """Let everybody who waits look why."""
        self._news.pop(queue, anyio.Event()).set()

    async def wait(self, queue: str) -> None:
        """Return once something is known, or after `ring`."""
        if queue not in self._lists:
            await self._news.setdefault(queue, anyio.Event()).wait()


def _names(components: Sequence[ComponentInfo]) -> frozenset[str] | None:
    """By what a task may name them: an id, or a path below its route. None: one takes many paths, and knows which."""
    paths = [info.path or f"/{info.id}" for info in components]
    if any("{" in path for path in paths):
        return None
    return frozenset((*paths, *(info.id for info in components)))
