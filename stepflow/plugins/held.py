"""One call of a component, and what it holds while it runs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec

from stepflow.errors import ComponentError
from stepflow.plugins.normal import normalise
from stepflow.protocols import Host
from stepflow.records import Json, Task


class Limit(msgspec.Struct, frozen=True):
    """So many at a time, first come first served."""

    limiter: anyio.CapacityLimiter
    name: str


class HeldCall:
    """A call that holds a place under each of its limits, always taken in the same order.

    Whoever waits for a place, or for a sub-run, holds no slot of the engine meanwhile.
    """

    __slots__ = ("_held", "_host", "_limits", "_task", "_waits", "is_cancelled", "is_in_thread", "state", "why_alone")

    def __init__(
        self, task: Task, host: Host, state: Any, limits: Sequence[Limit] = (), *, is_in_thread: bool = False
    ) -> None:
        self.state = state
        self.is_cancelled = False
        self.is_in_thread = is_in_thread
        self.why_alone: str | None = None  # why it cannot have sub-runs
        self._task = task
        self._host = host
        self._limits = limits
        self._held: list[Limit] = []
        self._waits = 0

    async def take(self) -> None:
        for limit in self._limits:
            try:
                limit.limiter.acquire_on_behalf_of_nowait(self)
            except anyio.WouldBlock:
                async with self._host.waiting(self._task, limit.name):
                    await limit.limiter.acquire_on_behalf_of(self)
                    self._held.append(limit)
            else:
                self._held.append(limit)

    def give_back(self) -> None:
        while self._held:
            self._held.pop().limiter.release_on_behalf_of(self)

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

    def check_sub_runs(self) -> None:
        if self.why_alone is not None:
            raise ComponentError(self.why_alone)

    def to_json(self, value: Any) -> Json:
        return normalise(value)
