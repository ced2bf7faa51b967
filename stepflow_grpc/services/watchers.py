"""Callers who are told of a run as it goes on."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import anyio

from stepflow.records import RunId
from stepflow_grpc.refusals import CallError, Code

T = TypeVar("T")


class Watchers:
    """Sends callers away when the server closes: what they wait for would only come later."""

    def __init__(self) -> None:
        self._waits: list[anyio.CancelScope] = []
        self._works: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    @property
    def waiting(self) -> int:
        """How many callers wait now."""
        return len(self._waits)

    async def each(self, source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """What the source gives. Raises: CallError, as soon as the server closes."""
        async with aclosing(source):
            while found := await self._next(source):
                yield found[0]

    async def wait(self, work: Coroutine[Any, Any, T], run_id: RunId) -> T:
        """What comes of waiting for a run. Raises: CallError, as soon as the server closes.

        What the work does when it is cancelled, such as to take a slot back, nobody waits for.
        """
        waiting = asyncio.create_task(work)
        self._works.add(waiting)
        waiting.add_done_callback(self._ended)
        try:
            with anyio.CancelScope() as scope:
                if self._is_closing:
                    scope.cancel()
                self._waits.append(scope)
                try:
                    await asyncio.wait((waiting,))
                    return waiting.result()
                finally:
                    self._waits.remove(scope)
        finally:
            waiting.cancel()
        raise CallError(Code.UNAVAILABLE, f"the server is closing; run {run_id} goes on: ask again")

    def _ended(self, work: "asyncio.Task[Any]") -> None:
        self._works.discard(work)
        if not work.cancelled():
            work.exception()  # whoever waited for it has it, or is gone

    async def _next(self, source: AsyncGenerator[T, None]) -> list[T]:
        """The next of it, boxed; empty at its end."""
        if not self._is_closing:
            with anyio.CancelScope() as scope:
                self._waits.append(scope)
                try:
                    return [await anext(source)]
                except StopAsyncIteration:
                    return []
                finally:
                    self._waits.remove(scope)
        raise CallError(Code.UNAVAILABLE, "the server is closing; ask again")

    def close(self) -> None:
        """They ask another server, or this one when it is back."""
        self._is_closing = True
        for scope in list(self._waits):
            scope.cancel()
