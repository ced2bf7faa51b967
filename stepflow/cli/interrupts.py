"""Ctrl-C and SIGTERM, heeded once; the second time the process ends."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable

import anyio

from stepflow.cli.impatience import INTERRUPTED, end_when_interrupted


async def heed_interrupts(heed: Callable[[], Awaitable[None]]) -> None:
    """Wait for signals, until cancelled. `heed` must not wait for what the first one ends."""
    if sys.platform == "win32":
        return
    is_second = False
    try:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if is_second:
                    os._exit(INTERRUPTED)
                is_second = True
                await heed()
    finally:
        if is_second:  # also while the event loop is closed
            end_when_interrupted()
