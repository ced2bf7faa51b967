"""One call on a connection: what its caller says, and what is said back."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from stepflow_grpc.http2.body import Body
from stepflow_grpc.http2.headers import FINE, Head, Metadata, trailers
from stepflow_grpc.http2.methods import Ended, Rpc

if TYPE_CHECKING:
    from stepflow_grpc.http2.writing import Writer

ROOM = 1024 * 1024
"""Bytes that a caller may send on a stream before they are read."""


class Call:
    """What answers a call gets it too; where the request is a stream, the messages come out of it.

    Args:
        read: is told that a message was taken out of it.

    Attributes:
        window: bytes that may be sent on its stream.
        room: bytes that its caller may send.
    """

    __slots__ = (
        "_failure",
        "_heard",
        "_held_bytes",
        "_inbox",
        "_read",
        "_sent",
        "_writer",
        "body",
        "head",
        "id",
        "is_begun",
        "is_late",
        "is_over",
        "is_said",
        "last",
        "outbox",
        "room",
        "rpc",
        "task",
        "timer",
        "window",
    )

    def __init__(
        self, id: int, head: Head, rpc: Rpc, body: Body, writer: "Writer", read: Callable[["Call"], None]
    ) -> None:
        self.id = id
        self.head = head
        self.rpc = rpc
        self.body = body
        self.window = writer.first_window
        self.room = ROOM
        self._writer = writer
        self._read = read
        self.outbox: deque[memoryview] = deque()
        self.last: bytes | None = None  # the headers that end it, once the outbox is empty
        self.is_begun = False  # whether the response's headers went out
        self.is_said = False  # whether the caller has said its last
        self.is_over = False  # whether nothing more can be said on either side
        self.is_late = False  # whether the time that the caller gave is over
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._inbox: deque[bytes] = deque()
        self._held_bytes = 0
        self._failure: Ended | None = None
        self._heard: asyncio.Future[None] | None = None  # whoever reads waits for it
        self._sent: asyncio.Future[None] | None = None  # whoever sends

    # What the caller says

    def invocation_metadata(self) -> Metadata:
        return self.head.metadata

    @property
    def held_bytes(self) -> int:
        """Of messages that nobody has read yet."""
        return self._held_bytes

    @property
    def held_messages(self) -> int:
        return len(self._inbox)

    def pop(self) -> bytes:
        """The message that came first."""
        message = self._inbox.popleft()
        self._held_bytes -= len(message)
        return message

    def take(self, messages: list[bytes]) -> None:
        """Keep messages for whoever reads the stream."""
        for message in messages:
            self._inbox.append(message)
            self._held_bytes += len(message)
        self.wake()

    def fail_reading(self, failure: Ended) -> None:
        """What comes after the messages that are here can't be read."""
        self._failure = failure
        self.wake()

    def __aiter__(self) -> "Call":
        return self

    async def __anext__(self) -> bytes:
        while not self._inbox:
            if self._failure is not None:
                raise self._failure
            if self.is_said:
                raise StopAsyncIteration
            self._heard = asyncio.get_running_loop().create_future()
            await self._heard
        message = self.pop()
        self._read(self)
        return message

    # What is said back

    async def send(self, message: bytes) -> None:
        """Say one message of several, once there is room for it; it is not kept waiting here."""
        self._writer.say(self, message)
        while self.outbox:
            self._sent = asyncio.get_running_loop().create_future()
            await self._sent

    def reply(self, message: bytes) -> None:
        """Say the only message, and that this was all."""
        self._writer.reply(self, message)

    def finish(self) -> None:
        """Say that this was all."""
        self._writer.end(self, FINE)

    def fail(self, ended: Ended) -> None:
        self._writer.end(self, trailers(ended.code, ended.message, ended.metadata))

    def wake(self) -> None:
        """Something came, went out, or is over."""
        for waited in (self._heard, self._sent):
            if waited is not None and not waited.done():
                waited.set_result(None)
