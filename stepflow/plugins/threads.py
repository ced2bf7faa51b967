"""Plain functions, called in worker threads."""

import threading
from collections.abc import Callable
from math import inf
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from stepflow.plugins.held import HeldCall

T = TypeVar("T")


class Threads:
    """Calls work in threads. Who is cancelled leaves at once; the thread goes on holding its places until it ends."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._is_closed = False
        self._unlimited = anyio.CapacityLimiter(inf)  # calls hold places under limits of their own

    def close(self) -> None:
        """From now on nobody waits for threads that nobody waits for: their places are gone with the plugin."""
        self._is_closed = True

    async def run(self, call: HeldCall, work: Callable[[], T]) -> T:
        """Do the work of a call that holds its places, and give these back."""
        entered = threading.Lock()  # taken once: by the thread that begins, or by who leaves before it began
        ended = threading.Event()

        def body() -> T:
            if not entered.acquire(blocking=False):
                raise RuntimeError("cancelled before it began")
            try:
                return work()
            finally:
                ended.set()

        call.work()
        try:
            return await anyio.to_thread.run_sync(body, abandon_on_cancel=True, limiter=self._unlimited)
        except BaseException:
            call.is_cancelled = True
            raise
        finally:
            if ended.is_set() or self._is_closed or entered.acquire(blocking=False):
                call.give_back()
            else:
                self._tasks.start_soon(self._give_back_later, call, ended)

    async def _give_back_later(self, call: HeldCall, ended: threading.Event) -> None:
        try:
            await anyio.to_thread.run_sync(ended.wait, abandon_on_cancel=True, limiter=self._unlimited)
        finally:
            call.give_back()
