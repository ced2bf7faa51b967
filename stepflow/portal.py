"""Something that lives on an event loop, for code that blocks."""

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from stepflow.errors import EngineClosedError

T = TypeVar("T")

_END = object()


class Portal:
    """Opens it on a loop in a thread of its own, so that it works from any thread and notebook.

    Args:
        what: what people call it, such as "engine".
        opened_by: how it is opened, for who forgot to.
    """

    def __init__(self, inside: AbstractAsyncContextManager[Any], what: str, opened_by: str) -> None:
        self._inside = inside
        self._what = what
        self._opened_by = opened_by
        self._stack: ExitStack | None = None
        self._portal: BlockingPortal | None = None
        self._process = 0  # where its thread runs: a fork has none

    @property
    def is_open(self) -> bool:
        return self._portal is not None

    def open(self) -> None:
        """Raises: EngineClosedError, where it is open already; and what opening raises."""
        if self._stack is not None:
            raise EngineClosedError(f"the {self._what} is open already; make another one for another `with`")
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._portal.wrap_async_context_manager(self._inside))
            self._stack = stack.pop_all()
        self._process = os.getpid()

    def close(self) -> None:
        stack, self._stack, self._portal = self._stack, None, None
        if stack is not None and self._process == os.getpid():
            stack.close()  # what the body raised is not its own: the thread would print it

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
        """Run a coroutine function on the loop and wait for what it gives.

        An interrupted wait (Ctrl-C) cancels it.
        """
        future = self.start(function, *args, **kwargs)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def start(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> "Future[T]":
        """The same without waiting. Raises: EngineClosedError, where it is not open in this process."""
        if self._portal is None:
            raise EngineClosedError(f"the {self._what} is not open: use it inside `{self._opened_by}`")
        if self._process != os.getpid():
            raise EngineClosedError(
                f"the {self._what} was opened before this process was forked: open one in each process"
            )
        return self._portal.start_task_soon(lambda: function(*args, **kwargs))

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """What an asynchronous iterator gives; each step is a hop to the loop's thread."""
        return self.drawn(source, self.call)

    def drawn(self, source: AsyncIterator[T], call: Callable[..., Any]) -> Iterator[T]:
        """The same, with each step taken by `call`."""
        try:
            while (found := call(_next, source)) is not _END:
                yield found
        finally:
            if self.is_open:
                self.call(_close, source)


async def _next(source: AsyncIterator[T]) -> T | object:
    return await anext(source, _END)


async def _close(source: AsyncIterator[Any]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
