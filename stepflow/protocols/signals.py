"""What wakes those who wait for another engine."""

from contextlib import AbstractContextManager
from typing import Protocol

from stepflow.records import RunId


class Listener(Protocol):
    """Hears of one topic for as long as its context is open."""

    async def wait(self, timeout_s: float) -> None:
        """Return when the topic was sent since this last returned (or began to listen), or when the time is over."""
        ...


class Signals(Protocol):
    """Wakes those who wait for what another engine does. A signal may be late or lost: whoever waits looks again.

    The store sends by itself, after a commit: `ended_topic(run_id)`, `inbox_topic(owner)`, `offers_topic(queue)`,
    `answers_topic(owner)` and `announced_topic(queue)` of this module.
    """

    def listen(self, topic: str) -> AbstractContextManager[Listener]:
        """Begin to listen, then look at what is there, then wait: so nothing that is sent in between is missed."""
        ...


def ended_topic(run_id: RunId) -> str:
    return f"end/{run_id}"


def inbox_topic(owner: str) -> str:
    return f"inbox/{owner}"


def offers_topic(queue: str) -> str:
    return f"offers/{queue}"


def answers_topic(owner: str) -> str:
    return f"answers/{owner}"


def announced_topic(queue: str) -> str:
    return f"announced/{queue}"
