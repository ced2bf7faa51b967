"""Time and chance, which core code has only from here."""

from contextlib import AbstractContextManager
from typing import Protocol

from stepflow.records import RunId


class Clock(Protocol):
    """Time. Core code reads it and waits for it only here, so that a test can turn it."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait, on this clock."""
        ...

    def timeout(self, seconds: float, *, shield: bool = False) -> "AbstractContextManager[Deadline, bool]":
        """A scope that is cancelled when the time is over, without raising."""
        ...

    def busy(self) -> AbstractContextManager[None]:
        """While inside, work goes on that the clock can't see (a thread, a process, a socket): a turned clock waits."""
        ...


class Deadline(Protocol):
    """What `Clock.timeout` gives: whether the time ran out."""

    @property
    def cancelled_caught(self) -> bool:
        """Whether the scope was left because the time was over."""
        ...


class Chance(Protocol):
    """Everything that is drawn: jitter and ids. A seeded one makes a run repeat exactly."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def run_id(self, now: float) -> RunId:
        """A new UUID version 7 for a time in seconds since the epoch."""
        ...
