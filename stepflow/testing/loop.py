"""An asyncio loop whose time is virtual: when nothing can happen but a timer, it jumps to that timer."""

import asyncio
import itertools
import socket
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from math import inf
from selectors import BaseSelector, DefaultSelector, SelectorKey
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from anyio._backends import _asyncio

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")


class Borrowed(Protocol):
    """A limiter of threads: while a token is out, a thread works."""

    @property
    def borrowed_tokens(self) -> int: ...


class Turn:
    """Where virtual time stands, how far it may go by itself, and whether anything works that the loop cannot see."""

    def __init__(self) -> None:
        self.now = 0.0
        self.limit = inf  # turned by hand: no jump beyond this
        self.on_stuck: Callable[[], None] | None = None  # called when only a hand could go on, and none is there
        self._working = 0
        self._limiters: list[Borrowed] = []
        self._settled: list[asyncio.Future[None]] = []

    @property
    def busy(self) -> bool:
        return self._working > 0 or any(limiter.borrowed_tokens for limiter in self._limiters)

    @contextmanager
    def working(self) -> Iterator[None]:
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1

    def watch(self, limiter: Borrowed) -> None:
        """Count its threads as work in flight."""
        if limiter not in self._limiters:
            self._limiters.append(limiter)

    @property
    def awaited(self) -> bool:
        """Whether anybody is to be told when time stands at the limit and nothing more happens."""
        return bool(self._settled) or self.on_stuck is not None

    async def advance(self, seconds: float) -> None:
        """Let time go on by so much, timer after timer, and return when nothing more happens at the new time."""
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.limit += seconds
        self._settled.append(settled)
        await settled

    def ahead(self, timeout: float | None) -> float:
        """Seconds to where time may jump when the next timer is `timeout` away; infinite without a timer."""
        return min(inf if timeout is None else timeout, self.limit - self.now)

    def settle(self) -> None:
        told, self._settled = [future for future in self._settled if not future.done()], []
        for future in told:
            future.set_result(None)
        if not told and self.on_stuck is not None:
            self.on_stuck()


class TurningSelector(BaseSelector):
    """A selector that, asked to wait for a timer, turns the clock instead, unless something is in flight.

    A wait for a thread or a process is real, and costs virtual time only when it lasts as long as the next timer is
    away: then that timer is due, as it would be in real life. Network connections are waited for until they have been
    silent for `quiet_s`, which is how one that is merely kept open looks. Pipes count for nothing: whoever works with
    processes marks the clock as busy.
    """

    def __init__(self, turn: Turn, *, quiet_s: float) -> None:
        self._inner = DefaultSelector()
        self._turn = turn
        self._quiet_s = quiet_s
        self._waited = 0.0
        self._own: frozenset[int] = frozenset()  # files of the loop itself

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = self._inner.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        ahead = self._turn.ahead(timeout)
        ready = self._wait(self._patience(ahead))
        if ready:
            return ready
        self._waited = 0.0
        if ahead > 0:
            self._turn.now += ahead
        else:
            self._turn.settle()
        return ready

    def _patience(self, ahead: float) -> float:
        """How long to wait for real before time goes on."""
        if self._turn.busy:
            return max(ahead - self._waited, 0.0) if ahead > 0 else inf
        self._waited = 0.0
        if ahead == inf or (ahead <= 0 and not self._turn.awaited):
            return inf
        return min(ahead or self._quiet_s, self._quiet_s) if self._is_connected() else 0.0

    def own_what_is_here(self) -> None:
        """What is registered now belongs to the loop and is never in flight."""
        self._own = frozenset(key.fd for key in self._inner.get_map().values())

    def _is_connected(self) -> bool:
        files = (key.fd for key in self._inner.get_map().values())
        return any(_is_network(file) for file in files if file not in self._own)

    def _wait(self, patience: float) -> list[tuple[SelectorKey, int]]:
        if patience <= 0:
            return []
        began = time.monotonic()
        ready = self._inner.select(None if patience == inf else patience)
        self._waited += time.monotonic() - began
        return ready

    def register(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping["FileDescriptorLike", SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()


def _is_network(file: int) -> bool:
    try:
        probe = socket.socket(fileno=file)
    except OSError:
        return False
    try:
        return probe.family in (socket.AF_INET, socket.AF_INET6)
    finally:
        probe.detach()


class _NumberedTask(asyncio.Task[T]):
    """A task that is hashed by its number, and not by where it lies in memory."""

    def __init__(self, coro: Any, *, number: int, **options: Any) -> None:
        self._number = number  # before all else: asyncio hashes what it begins
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class _NumberedScope(_asyncio.CancelScope):
    """A scope of AnyIO's that on a loop with virtual time is hashed by its number, not by where it lies in memory."""

    __slots__ = ("_number",)

    def __init__(self, *args: Any, **options: Any) -> None:
        loop = asyncio.get_running_loop()
        self._number = next(loop.numbers) if isinstance(loop, VirtualLoop) else id(self)
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


@contextmanager
def _numbered_scopes() -> Iterator[None]:
    """While inside, AnyIO makes numbered scopes: of these the loop can't be asked, as it is for tasks."""
    made = _asyncio.CancelScope
    if made is _NumberedScope:  # a loop of another thread sees to it
        yield
        return
    _asyncio.CancelScope = _NumberedScope  # type: ignore[misc]
    try:
        yield
    finally:
        _asyncio.CancelScope = made  # type: ignore[misc]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop with virtual time, which begins at 0.

    Everything that sleeps on it is turned: the engine's waits, `asyncio.sleep` in a component, `anyio.move_on_after`.
    And it repeats itself: AnyIO keeps what it cancels in sets, of tasks and of scopes, whose order would otherwise be
    that of their addresses.
    """

    def __init__(self, *, quiet_s: float = 5.0) -> None:
        self.turn = Turn()
        self.numbers = itertools.count()
        selector = TurningSelector(self.turn, quiet_s=quiet_s)
        super().__init__(selector)
        selector.own_what_is_here()
        self.set_task_factory(self._make_task)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: "Coroutine[Any, Any, T] | Generator[Any, None, T]", **options: Any
    ) -> "asyncio.Task[T]":
        return _NumberedTask(coro, number=next(self.numbers), loop=loop, **options)

    def run_forever(self) -> None:
        with _numbered_scopes():
            super().run_forever()

    def time(self) -> float:
        return self.turn.now

    def run_in_executor(  # type: ignore[override]  # typeshed's variadic generics say the same
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        working = self.turn.working()
        working.__enter__()
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        future.add_done_callback(lambda _: working.__exit__(None, None, None))
        return future

    async def shutdown_default_executor(self, *args: float | None) -> None:
        with self.turn.working():
            await super().shutdown_default_executor(*args)
