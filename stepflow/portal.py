"""Something that lives on an event loop, for code that blocks."""

import os
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from threading import Thread
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

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
        self._closing: Callable[[], object] | None = None
        self._portal: BlockingPortal | None = None
        self._process = 0  # where its thread runs: a fork has none

    @property
    def is_open(self) -> bool:
        return self._portal is not None

    def open(self) -> None:
        """What is not closed is closed when the interpreter exits.

        Raises: EngineClosedError, where it is open already; and what opening raises.
        """
        if self._portal is not None:
            raise EngineClosedError(f"the {self._what} is open already; make another one for another `with`")
        with ExitStack() as stack:
            portal = stack.enter_context(_loop())
            stack.enter_context(portal.wrap_async_context_manager(self._inside))
            self._portal, self._process = portal, os.getpid()
            self._closing = weakref.finalize(self, _close_all, stack.pop_all(), self._process)

    def close(self) -> None:
        closing, self._closing, self._portal = self._closing, None, None
        if closing is not None:
            closing()  # what the body raised is not its own: the thread would print it

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
        steps = _Steps(source)
        try:
            while (found := call(steps.next)) is not _END:
                yield found
        finally:
            if self.is_open:
                self.call(steps.close)


@contextmanager
def _loop() -> Iterator[BlockingPortal]:
    """An event loop in a thread that keeps no interpreter from exiting; AnyIO's own does in older versions."""
    started: Future[BlockingPortal] = Future()

    async def live() -> None:
        async with BlockingPortal() as portal:
            started.set_result(portal)
            await portal.sleep_until_stopped()

    def run() -> None:
        try:
            anyio.run(live)
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = Thread(target=run, name="stepflow", daemon=True)
    thread.start()
    portal = started.result()
    try:
        yield portal
    finally:
        with suppress(RuntimeError):  # the loop has ended by itself
            portal.call(portal.stop)
        thread.join()


def _close_all(stack: ExitStack, process: int) -> None:
    if process == os.getpid():
        stack.close()


class _Steps:
    """An asynchronous iterator, step by step. One that was interrupted is over before the iterator is closed."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source
        self._at_rest: anyio.Event | None = None

    async def next(self) -> Any:
        """Gives `_END` behind the last."""
        self._at_rest = anyio.Event()
        try:
            return await anext(self._source, _END)
        finally:
            self._at_rest.set()

    async def close(self) -> None:
        if self._at_rest is not None:
            await self._at_rest.wait()
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()
