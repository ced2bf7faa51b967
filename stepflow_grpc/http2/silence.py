"""When a connection is asked whether it lives, and when it is closed."""

from enum import Enum, auto
from math import inf

import msgspec

CLOSING_S = 5.0
"""How long a connection that is closed may take to read what was said to it, at most."""


class Patience(msgspec.Struct, frozen=True):
    """How long a connection may be silent, in seconds."""

    greeting_s: float  # before it has said its settings
    keepalive_s: float  # before it is asked whether it lives
    keepalive_answer_s: float  # before it has said so
    idle_s: float  # without a call


class Verdict(Enum):
    WAIT = auto()
    ASK = auto()  # by a ping
    LEAVE = auto()  # it has nothing to say, and may come again
    CUT = auto()  # nobody is there, or nobody listens


class Silence:
    """What is known of a connection's life. Times are those of one clock."""

    __slots__ = ("asked_at", "began_at", "closed_at", "greeted_at", "heard_at", "idle_since", "patience", "stuck_at")

    def __init__(self, patience: Patience, now: float) -> None:
        self.patience = patience
        self.began_at = self.heard_at = now
        self.idle_since = now  # without a call; inf: it has some
        self.greeted_at: float | None = None
        self.asked_at = inf  # since when an answer is waited for
        self.stuck_at = inf  # since when nothing of what is said is read
        self.closed_at = inf

    def due_at(self) -> float:
        """When to ask for the verdict next."""
        patience = self.patience
        asks_at = self.heard_at + patience.keepalive_s if self.asked_at == inf else inf
        return min(self._cut_at(), asks_at, self.idle_since + patience.idle_s if self.closed_at == inf else inf)

    def verdict(self, now: float) -> Verdict:
        if now >= self._cut_at():
            return Verdict.CUT
        if self.closed_at == inf and now >= self.idle_since + self.patience.idle_s:
            return Verdict.LEAVE
        if self.asked_at == inf and now >= self.heard_at + self.patience.keepalive_s:
            return Verdict.ASK
        return Verdict.WAIT

    def _cut_at(self) -> float:
        patience = self.patience
        return min(
            inf if self.greeted_at is not None else self.began_at + patience.greeting_s,
            self.asked_at + patience.keepalive_answer_s,
            self.stuck_at + patience.keepalive_s + patience.keepalive_answer_s,
            self.closed_at + CLOSING_S,
        )
