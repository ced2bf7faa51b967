"""Something that lives on an event loop, for code that blocks."""

import os
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from functools import partial
from threading import Thread
from typing import Any, Generic, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from stepflow.errors import EngineClosedError

T = TypeVar("T")

NAP_S = 0.25
"""How long a thread waits at a time. A signal that another thread was woken for, or a system that lets no signal end a
wait, makes an interrupt late by this much and no more."""

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
        with self.running(function, *args, **kwargs) as future:
            return result_of(future)

    @contextmanager
    def running(
        self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> "Iterator[Future[T]]":
        """Run a coroutine function on the loop; it is cancelled if the block is left before its end.

        Raises: as `start`.
        """
        portal = self._running_portal()
        task = _Task(partial(function, *args, **kwargs))
        try:
            yield portal.start_task_soon(task.run)
        finally:  # a signal may come before the future is in anybody's hand, so it is not the future that is cancelled
            if not task.is_over:
                with suppress(RuntimeError):  # the loop has ended by itself, and all that ran on it
                    portal.start_task_soon(task.cancel)

    def start(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> "Future[T]":
        """The same without waiting. Raises: EngineClosedError, where it is not open in this process."""
        return self._running_portal().start_task_soon(lambda: function(*args, **kwargs))

    def _running_portal(self) -> BlockingPortal:
        if self._portal is None:
            raise EngineClosedError(f"the {self._what} is not open: use it inside `{self._opened_by}`")
        if self._process != os.getpid():
            raise EngineClosedError(
                f"the {self._what} was opened before this process was forked: open one in each process"
            )
        return self._portal

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


def result_of(future: "Future[T]") -> T:
    """Its result, waited for in naps, so that an interrupt is heard wherever it was delivered."""
    while not future.done():
        with suppress(TimeoutError):
            return future.result(NAP_S)
    return future.result()


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


class _Task(Generic[T]):
    """A coroutine function on the loop, and its end by who waits for it in another thread."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._function = function
        self._scope: anyio.CancelScope | None = None
        self._is_unwanted = False
        self.is_over = False

    async def run(self) -> T:
        try:
            with anyio.CancelScope() as self._scope:
                if not self._is_unwanted:
                    return await self._function()
            raise CancelledError
        finally:
            self.is_over = True

    def cancel(self) -> None:
        self._is_unwanted = True
        if self._scope is not None:
            self._scope.cancel()


class _Steps:
    """An asynchronous iterator, step by step. One that was interrupted is over before the iterator is closed."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source
        self._scope: anyio.CancelScope | None = None
        self._at_rest = anyio.Event()

    async def next(self) -> Any:
        """Gives `_END` behind the last."""
        self._at_rest = anyio.Event()
        try:
            with anyio.CancelScope() as self._scope:
                return await anext(self._source, _END)
            return _END
        finally:
            self._at_rest.set()

    async def close(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
            await self._at_rest.wait()
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()
