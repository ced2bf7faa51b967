"""A clock for tests: it jumps to the next timer by itself, or is turned by hand."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from math import inf
from typing import Any, Protocol

import anyio
import anyio.to_thread

from stepflow.testing.loop import Turn, VirtualLoop

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""What a turned clock shows first unless told otherwise, so that runs repeat to the letter."""

_REAL = "a turned clock needs a loop with virtual time"


class Turning(Protocol):
    """Virtual time of a loop."""

    def time(self) -> float: ...

    def working(self) -> AbstractContextManager[None]:
        """While inside, time waits for work that the loop cannot see."""
        ...

    def manual(self) -> None: ...

    def automatic(self) -> None: ...

    async def advance(self, seconds: float) -> None: ...


class LoopTurning:
    """Virtual time on asyncio."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def time(self) -> float:
        return self._turn.now

    def working(self) -> AbstractContextManager[None]:
        return self._turn.working()

    def manual(self) -> None:
        self._turn.limit = self._turn.now

    def automatic(self) -> None:
        self._turn.limit = inf

    async def advance(self, seconds: float) -> None:
        await self._turn.advance(seconds)


class MockTurning:
    """Virtual time on Trio, through its own `MockClock`."""

    def __init__(self, mock: Any) -> None:
        self._mock = mock
        self._working = 0
        self._by_hand = mock.autojump_threshold == inf

    def time(self) -> float:
        return float(self._mock.current_time())

    @contextmanager
    def working(self) -> Iterator[None]:
        self._working += 1
        self._set()
        try:
            yield
        finally:
            self._working -= 1
            self._set()

    def manual(self) -> None:
        self._by_hand = True
        self._set()

    def automatic(self) -> None:
        self._by_hand = False
        self._set()

    def _set(self) -> None:
        self._mock.autojump_threshold = inf if self._working or self._by_hand else 0

    async def advance(self, seconds: float) -> None:
        import trio

        end = self.time() + seconds
        await anyio.wait_all_tasks_blocked()
        while (rest := end - self.time()) > 0:
            due = trio.lowlevel.current_statistics().seconds_to_next_deadline
            self._mock.jump(min(rest, max(due, 0.0)))
            await anyio.wait_all_tasks_blocked()


class TurnedClock:
    """Virtual time as the engine's `Clock`: give it to an `Engine` that runs on a loop with virtual time.

    Made inside such a loop: `VirtualLoop` on asyncio, `trio.testing.MockClock` on Trio (`turned_backend` gives either
    for AnyIO's pytest plugin). With `turn` it is made for a loop that does not run yet.

    Raises:
        RuntimeError: the running loop keeps real time.
    """

    def __init__(self, turn: Turn | None = None, *, start: float = START) -> None:
        self._turning: Turning = _turning() if turn is None else LoopTurning(turn)
        self._start = start
        self._began = self._turning.time()
        self._by_hand = False

    @property
    def elapsed_s(self) -> float:
        """Seconds of virtual time since the clock was made."""
        return self._turning.time() - self._began

    def now(self) -> float:
        return self._start + self.elapsed_s

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def timeout(self, seconds: float, *, shield: bool = False) -> anyio.CancelScope:
        return anyio.move_on_after(seconds, shield=shield)

    def busy(self) -> AbstractContextManager[None]:
        return self._turning.working()

    def manual(self) -> None:
        """From now on time goes on only by `advance`."""
        self._by_hand = True
        self._turning.manual()

    def automatic(self) -> None:
        """From now on time jumps by itself again, as it does at first."""
        self._by_hand = False
        self._turning.automatic()

    async def advance(self, seconds: float) -> None:
        """Turn the clock: every timer until then fires in its turn. Returns when nothing more happens at the new time.

        Raises:
            RuntimeError: the clock turns by itself; call `manual` first.
            ValueError: time does not go back.
        """
        if not self._by_hand:
            raise RuntimeError("this clock turns by itself: call clock.manual() before clock.advance()")
        if not 0 <= seconds < inf:
            raise ValueError(f"a clock is turned by a finite number of seconds from 0 on, not by {seconds!r}")
        await self._turning.advance(seconds)


def _turning() -> Turning:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return MockTurning(_mock_clock())
    if not isinstance(loop, VirtualLoop):
        raise RuntimeError(f"{_REAL}: run it on stepflow.testing.loop.VirtualLoop")
    loop.turn.watch(anyio.to_thread.current_default_thread_limiter())
    return LoopTurning(loop.turn)


def _mock_clock() -> Any:
    if "trio" not in sys.modules:
        raise RuntimeError(f"{_REAL}: no loop is running")
    import trio
    import trio.testing

    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        raise RuntimeError(f"{_REAL}: run it with trio.testing.MockClock(autojump_threshold=0)")
    return clock


def turned_backend(name: str) -> tuple[str, dict[str, Any]]:
    """A value for AnyIO's `anyio_backend` fixture that gives tests virtual time on `asyncio` or on `trio`."""
    if name == "trio":
        from trio.testing import MockClock

        return name, {"clock": MockClock(autojump_threshold=0)}
    return name, {"loop_factory": VirtualLoop}
