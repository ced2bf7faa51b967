"""What wakes the one who waits: `anyio.Event` for one ring, at a tenth of its cost on asyncio."""

import asyncio
from collections.abc import Generator
from typing import TypeAlias

import anyio


class _FutureBell(asyncio.Future[None]):
    """On asyncio, which most of a queue's tasks wait on."""

    def set(self) -> None:
        if not self.done():
            self.set_result(None)


class _EventBell:
    """Elsewhere."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    def __await__(self) -> Generator[object, object, None]:
        return self._event.wait().__await__()


Bell: TypeAlias = _FutureBell | _EventBell


def make_bell() -> Bell:
    """One that was not rung: await it, and `set` it once. Made and awaited by the same task."""
    try:
        return _FutureBell(loop=asyncio.get_running_loop())
    except RuntimeError:
        return _EventBell()
