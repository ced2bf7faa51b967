"""Callers who are told of a run as it goes on."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

import anyio

from stepflow_grpc.refusals import CallError, Code

T = TypeVar("T")


class Watchers:
    """Sends callers away when the server closes: what they wait for would only come later."""

    def __init__(self) -> None:
        self._waits: list[anyio.CancelScope] = []
        self._is_closing = False

    async def each(self, source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """What the source gives. Raises: CallError, as soon as the server closes."""
        async with aclosing(source):
            while found := await self._next(source):
                yield found[0]

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
