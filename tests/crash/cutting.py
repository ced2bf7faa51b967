"""A store in whose midst an engine dies: before or after one of its writes, and nothing it does later is heard."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio

from stepflow.errors import StoreError
from stepflow.protocols import Backend

WRITES = {
    "journal": frozenset({"commit"}),
    "blobs": frozenset({"put"}),
    "owners": frozenset({"enter", "claim", "leave"}),
    "inbox": frozenset({"send", "done"}),
}
"""What changes the store, but for beats: those come with the time."""


class Cut:
    """At which write the engine dies.

    Args:
        at: how many writes go well; None: all of them.
        after: whether the write at which it dies is still stored.
    """

    def __init__(self, at: int | None = None, *, after: bool = False) -> None:
        self.writes = 0
        self.died = anyio.Event()
        self._at = at
        self._after = after
        self._buried = anyio.Event()

    def bury(self) -> None:
        """Whoever waits for the store is told that it is over, so that what is left of the engine can be taken away."""
        self._buried.set()

    async def write(self, call: Callable[..., Awaitable[Any]], *given: Any, **named: Any) -> Any:
        if self.writes == self._at and not self.died.is_set():
            if self._after:
                await call(*given, **named)
            self.died.set()
        self.writes += 1
        return await self.read(call, *given, **named)

    async def read(self, call: Callable[..., Awaitable[Any]], *given: Any, **named: Any) -> Any:
        if self.died.is_set():
            await self._buried.wait()
            raise StoreError("the engine has died")
        return await call(*given, **named)


class _CutPart:
    """One part of a backend, its writes counted."""

    def __init__(self, part: Any, writes: frozenset[str], cut: Cut) -> None:
        self._part = part
        self._writes = writes
        self._cut = cut

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)
        if not inspect.iscoroutinefunction(method):
            return method
        return partial(self._cut.write if name in self._writes else self._cut.read, method)


class CutBackend:
    """The backend that an engine gets, over a real one."""

    def __init__(self, real: Backend, cut: Cut) -> None:
        self.real = real
        self._cut = cut

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if isinstance(found, bool) or name in ("signals", "dispatch", "retention"):
            return found
        return _CutPart(found, WRITES.get(name, frozenset()), self._cut)

    async def __aenter__(self) -> "CutBackend":
        await self.real.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.real.__aexit__(*exc)
