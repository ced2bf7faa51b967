"""One call of a component, and what it holds while it runs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import anyio

from stepflow.errors import ComponentError
from stepflow.plugins.normal import NotJsonError, normalise
from stepflow.protocols import Host
from stepflow.records import Json, Task


class Limit:
    """So many at a time, first come first served: a place that is given back goes to who has waited longest."""

    __slots__ = ("_free", "_waiting", "name", "total")

    def __init__(self, total: int, name: str) -> None:
        self.total = total
        self.name = name
        self._free = total
        self._waiting: dict[anyio.Event, None] = {}

    def take_now(self) -> bool:
        """Take a place if there is one."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self) -> None:
        """Wait for a place."""
        event = anyio.Event()
        self._waiting[event] = None
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.give_back()
            else:
                del self._waiting[event]
            raise

    def give_back(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        event = next(iter(self._waiting))
        del self._waiting[event]
        event.set()


class HeldCall:
    """A call that holds a place under each of its limits, always taken in the same order.

    Whoever waits for a place, or for a sub-run, holds no slot of the engine meanwhile. A call that works where the
    clock cannot see it makes it busy, but not while it waits for a sub-run.
    """

    __slots__ = (
        "_busy",
        "_held",
        "_host",
        "_is_unseen",
        "_limits",
        "_task",
        "_waits",
        "is_cancelled",
        "is_in_batch",
        "is_in_thread",
        "state",
    )

    def __init__(
        self,
        task: Task,
        host: Host,
        state: Any,
        limits: Sequence[Limit] = (),
        *,
        is_in_thread: bool = False,
        is_in_batch: bool = False,
    ) -> None:
        self.state = state
        self.is_cancelled = False
        self.is_in_thread = is_in_thread
        self.is_in_batch = is_in_batch
        self._task = task
        self._host = host
        self._limits = limits
        self._held: list[Limit] = []
        self._waits = 0
        self._busy: AbstractContextManager[None] | None = None
        self._is_unseen = False

    async def take(self) -> None:
        for limit in self._limits:
            if limit.take_now():
                self._held.append(limit)
            else:
                await self._take_later(limit)

    async def _take_later(self, limit: Limit) -> None:
        if self.is_in_batch:  # a batch runs beside the slots; its calls wait for it without one
            await limit.take()
            self._held.append(limit)
            return
        async with self._host.waiting(self._task, limit.name):
            await limit.take()
            self._held.append(limit)

    def give_back(self) -> None:
        self.rest()
        while self._held:
            self._held.pop().give_back()

    def work(self) -> None:
        """From now on, until `rest` or `give_back`, the clock cannot see what is done."""
        self._is_unseen = True
        self._busy = self._host.clock.busy()
        self._busy.__enter__()

    def rest(self) -> None:
        busy, self._busy = self._busy, None
        if busy is not None:
            busy.__exit__(None, None, None)

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """Where a call waits for several things at once, its places are taken again after the last."""
        self._waits += 1
        self.give_back()
        try:
            yield
        finally:
            self._waits -= 1
            if not self._waits:
                await self.take()
                if self._is_unseen:
                    self.work()

    def check_sub_runs(self) -> None:
        if self.is_in_batch:
            raise ComponentError("a call that is one of a batch cannot have sub-runs; register the component unbatched")

    def to_json(self, value: Any) -> Json:
        try:
            return normalise(value)
        except NotJsonError as error:
            raise ValueError(f"what the context was given is not JSON: {error}") from None
