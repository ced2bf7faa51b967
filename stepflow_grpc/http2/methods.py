"""What a connection needs to know of the services behind it."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

from stepflow_grpc.http2.headers import Head, Metadata


class Status(IntEnum):
    """The codes that this side itself ends calls with."""

    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Ended(Exception):
    """A call is over, with a status and what goes beside it. Whatever answers calls raises it."""

    def __init__(self, code: int, message: str, metadata: Metadata = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.metadata = metadata


class TooLong(Ended):
    """A message of the request is longer than one may be.

    Args:
        size: its bytes, or as many as were counted.
        head: those that are here.
    """

    def __init__(self, size: int, longest: int, head: bytes) -> None:
        super().__init__(Status.RESOURCE_EXHAUSTED, f"Received message larger than max ({size} vs. {longest})")
        self.size = size
        self.longest = longest
        self.head = head


class Rpc(NamedTuple):
    """How one method is answered.

    `answer` is given the request's bytes, or where it `takes_stream` an async iterator of them, and the call. It is a
    coroutine that gives the response's bytes, or where it `streams` an async generator of them. `on_too_long` is told
    of a request that is refused for its length, and who sent it.
    """

    answer: Callable[[Any, Any], Any]
    takes_stream: bool = False
    streams: bool = False
    on_too_long: Callable[[TooLong, str], None] | None = None


Find: TypeAlias = Callable[[Head], Rpc | None]
"""Gives the method that is called; None: there is none. Raises: Ended, where the caller may not call it."""
