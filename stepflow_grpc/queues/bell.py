"""What wakes the one who waits: `anyio.Event` for one ring, at a tenth of its cost on asyncio."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio

Bell: TypeAlias = "asyncio.Future[None] | anyio.Event"


def bells() -> Callable[[], Bell]:
    """Makes bells that were not rung, for whoever waits on the loop that runs now.

    To look for the loop is a call into the system each time: who makes many bells keeps this.
    """
    try:
        return asyncio.get_running_loop().create_future
    except RuntimeError:
        return anyio.Event


def ring(bell: Bell) -> None:
    if not isinstance(bell, asyncio.Future):
        bell.set()
    elif not bell.done():
        bell.set_result(None)


def rung(bell: Bell) -> Awaitable[None]:
    """Await it: returns once it was rung."""
    return bell if isinstance(bell, asyncio.Future) else bell.wait()
