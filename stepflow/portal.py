"""Something that lives on an event loop, for code that blocks."""

import os
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial
from threading import Thread, current_thread
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
        self._loop: _Loop | None = None

    @property
    def is_open(self) -> bool:
        return self._loop is not None and self._loop.is_here and not self._loop.is_unwanted

    def open(self) -> None:
        """What is not closed is closed when the interpreter exits.

        Raises: EngineClosedError, where it is open already; and what opening raises.
        """
        if self._loop is not None:
            raise EngineClosedError(f"the {self._what} is open already; make another one for another `with`")
        loop = _Loop(self._inside)
        self._closing = weakref.finalize(self, loop.close)
        loop.open()
        self._loop = loop

    def close(self) -> None:
        closing, self._closing, self._loop = self._closing, None, None
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
            yield self._started(portal, task.run)
        except CancelledError:
            if self.is_open:
                raise
            raise EngineClosedError(f"the {self._what} was closed before the call ended") from None
        finally:  # a signal may come before the future is in anybody's hand, so it is not the future that is cancelled
            if not task.is_over:
                with suppress(RuntimeError):  # the loop has ended by itself, and all that ran on it
                    portal.start_task_soon(task.cancel)

    def start(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> "Future[T]":
        """The same without waiting. Raises: EngineClosedError, where it is not open in this process."""
        return self._started(self._running_portal(), partial(function, *args, **kwargs))

    def _started(self, portal: BlockingPortal, function: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        try:
            return portal.start_task_soon(function)
        except RuntimeError:
            self._running_portal()  # another thread has closed it meanwhile
            raise

    def _running_portal(self) -> BlockingPortal:
        if self._loop is None or (self._loop.is_here and self._loop.is_unwanted):
            raise EngineClosedError(f"the {self._what} is not open: use it inside `{self._opened_by}`")
        if not self._loop.is_here:
            raise EngineClosedError(
                f"the {self._what} was opened before this process was forked: open one in each process"
            )
        return self._loop.portal

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


class _Loop:
    """Something open on an event loop in a thread, which keeps no interpreter from exiting; AnyIO's own may."""

    portal: BlockingPortal

    def __init__(self, inside: AbstractAsyncContextManager[Any]) -> None:
        self._inside = inside
        self._thread = Thread(target=self._run, name="stepflow", daemon=True)
        self._process = os.getpid()
        self._opened: Future[None] = Future()
        self._ended: Future[None] = Future()  # an interrupted `join` takes its thread for ended, before Python 3.13
        self._failure: Exception | None = None
        self._scope: anyio.CancelScope | None = None
        self._left: anyio.Event
        self.is_unwanted = False

    @property
    def is_here(self) -> bool:
        """Whether this process has its thread: one that was forked has none."""
        return self._process == os.getpid()

    @property
    def _is_collected_inside(self) -> bool:
        """Whether it is closed by its own thread, which meets garbage of others, too."""
        return self._thread is current_thread()

    def open(self) -> None:
        """An interrupt while it opens is raised once all of it is closed again."""
        try:
            self._thread.start()
            result_of(self._opened)
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """Raises: what closing raised; an interrupt after that, and a second one at once."""
        if not self.is_here:
            return
        try:
            self._end()
        except BaseException:
            self._end()
            raise
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        """Have all of it closed, and wait until it is."""
        self.is_unwanted = True
        if self._is_collected_inside:
            self._leave()
        elif self._scope is not None:  # else it is not so far yet, and will see it
            with suppress(RuntimeError):  # the loop has ended by itself
                self.portal.start_task_soon(self._leave)
        self._wait()

    def _leave(self) -> None:
        self._left.set()
        if self._scope is not None and not self._opened.done():
            self._scope.cancel()

    def _wait(self) -> None:
        if self._thread.ident is not None and not self._is_collected_inside:
            result_of(self._ended)
            self._thread.join()

    def _run(self) -> None:
        try:
            anyio.run(self._live)
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)
        finally:
            self._ended.set_result(None)

    async def _live(self) -> None:
        async with BlockingPortal() as portal:
            self.portal = portal
            try:
                await self._hold()
            except Exception as error:  # noqa: BLE001  # raised in the thread that opens or closes
                self._failure = error
            if not self._opened.done():
                self._opened.set_exception(self._failure or EngineClosedError("it was closed while it opened"))
                self._failure = None
            await portal.stop(cancel_remaining=True)  # a call of something else could go on for ever

    async def _hold(self) -> None:
        self._left = anyio.Event()
        with anyio.CancelScope() as self._scope:
            if self.is_unwanted:  # by whoever had no scope yet to say so
                self._scope.cancel()
            async with self._inside:
                self._opened.set_result(None)
                await self._left.wait()


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
