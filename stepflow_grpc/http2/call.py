"""One call on a connection: what its caller says, and what is said back."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NoReturn

from stepflow_grpc.http2.body import Body
from stepflow_grpc.http2.headers import FINE, Head, Metadata, trailers
from stepflow_grpc.http2.methods import Ended, Rpc

if TYPE_CHECKING:
    from stepflow_grpc.http2.connection import Connection


class Call:
    """What answers a call gets it too; where the request is a stream, the messages come out of it.

    Attributes:
        window: bytes that may be sent on its stream.
        room: bytes that its caller may send.
    """

    __slots__ = (
        "_failure",
        "_held_bytes",
        "_inbox",
        "_moved",
        "body",
        "connection",
        "head",
        "id",
        "is_begun",
        "is_late",
        "is_said",
        "last",
        "outbox",
        "room",
        "rpc",
        "task",
        "timer",
        "window",
    )

    def __init__(self, connection: "Connection", id: int, head: Head, rpc: Rpc, window: int, room: int) -> None:
        self.connection = connection
        self.id = id
        self.head = head
        self.rpc = rpc
        self.window = window
        self.room = room
        self.body = Body(connection.longest_message, head.encoding)
        self.outbox: deque[memoryview] = deque()
        self.last: bytes | None = None  # the headers that end it, once the outbox is empty
        self.is_begun = False  # whether the response's headers went out
        self.is_said = False  # whether the caller has said its last
        self.is_late = False  # whether the time that the caller gave is over
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._inbox: deque[bytes] = deque()
        self._held_bytes = 0
        self._failure: Ended | None = None
        self._moved: asyncio.Future[None] | None = None

    # What the caller says

    def invocation_metadata(self) -> Metadata:
        return self.head.metadata

    def peer(self) -> str:
        """The caller's address."""
        return self.connection.peer

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
            await self._wait()
        message = self.pop()
        self.connection.make_room(self)
        return message

    # What is said back

    async def send(self, message: bytes) -> None:
        """Say one message of several, once there is room for it; it is not kept waiting here."""
        self.connection.say(self, message)
        while self.outbox:
            await self._wait()

    def finish(self) -> None:
        """Say that this was all."""
        self.connection.end(self, FINE)

    def fail(self, ended: Ended) -> None:
        self.connection.end(self, trailers(ended.code, ended.message, ended.metadata))

    async def abort(self, code: int, message: str, metadata: Metadata = ()) -> NoReturn:
        raise Ended(code, message, metadata)

    def wake(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    async def _wait(self) -> None:
        self._moved = asyncio.get_running_loop().create_future()
        try:
            await self._moved
        finally:
            self._moved = None
