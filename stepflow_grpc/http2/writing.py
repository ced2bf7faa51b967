"""What goes out on a connection, as far as the other side has room for it."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from stepflow_grpc.http2.call import Call
from stepflow_grpc.http2.framing import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    FLOW_CONTROL_ERROR,
    HEAD,
    HEADERS,
    NO_ERROR,
    PROTOCOL_ERROR,
    SMALLEST_FRAME,
    WIDEST_WINDOW,
    ConnectionProblem,
    StreamProblem,
    frame,
    reset,
)
from stepflow_grpc.http2.headers import FINE, RESPONSE

_AT_ONCE = 256 * 1024
"""Bytes that are gathered before the system is given them."""


class Writer:
    """Says the answers to calls (RFC 9113, section 5.2), and keeps what there is no room for.

    Args:
        over: is told of a call whose last was said.

    Attributes:
        first_window: bytes that may be sent on a new stream.
        longest_frame: that the other side takes.
    """

    def __init__(self, transport: Any, over: Callable[[Call], None]) -> None:
        self.first_window = FIRST_WINDOW
        self.longest_frame = SMALLEST_FRAME
        self._transport = transport
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._window = FIRST_WINDOW
        self._blocked: dict[Call, None] = {}
        self._is_stuck = False

    def write(self, data: bytes) -> None:
        """Say it when the loop comes round, with what else there is by then."""
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(data)

    def flush(self) -> None:
        out = self._out
        if out and not self._transport.is_closing():
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()

    @property
    def unread_bytes(self) -> int:
        """Of what was said, as far as the system has not taken it."""
        found: int = self._transport.get_write_buffer_size()
        return found + sum(map(len, self._out))

    # Room

    def pause(self) -> None:
        """The system takes no more."""
        self._is_stuck = True

    def resume(self) -> None:
        self._is_stuck = False
        self._pump_all()

    def widen(self, increment: int) -> None:
        """There is room for more on the connection. Raises: ConnectionProblem."""
        self._window += increment
        if not increment or self._window > WIDEST_WINDOW:
            raise ConnectionProblem(FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR, "a window that is wrong")
        self._pump_all()

    def widen_stream(self, call: Call, increment: int) -> None:
        """There is room for more on a stream. Raises: StreamProblem."""
        call.window += increment
        if not increment or call.window > WIDEST_WINDOW:
            raise StreamProblem(FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR, "a window that is wrong")
        if call.outbox:
            self._pump(call)

    def set_first_window(self, size: int, calls: Iterable[Call]) -> None:
        """There is so much room on a stream, which counts for those that are open too. Raises: ConnectionProblem."""
        more = size - self.first_window
        self.first_window = size
        for call in calls:
            call.window += more
        if size > WIDEST_WINDOW or any(call.window > WIDEST_WINDOW for call in calls):
            raise ConnectionProblem(FLOW_CONTROL_ERROR, "a window that is too wide")
        self._pump_all()

    # Answers

    def reply(self, call: Call, message: bytes) -> None:
        """The whole of a response of one message."""
        size = len(message) + 5
        if size > min(call.window, self._window, self.longest_frame) or self._is_stuck:
            self.say(call, message)
            self.end(call, FINE)
        elif not call.is_over:
            self._window -= size
            id = call.id
            parts = (
                HEAD.pack(0, len(RESPONSE), HEADERS, END_HEADERS, id),
                RESPONSE,
                HEAD.pack(size >> 8, size & 0xFF, DATA, 0, id),
                b"\0",
                (size - 5).to_bytes(4),
                message,
                HEAD.pack(0, len(FINE), HEADERS, END_HEADERS | END_STREAM, id),
                FINE,
            )
            self.write(b"".join(parts))
            self._over(call)

    def say(self, call: Call, message: bytes) -> None:
        """One message of a response, as soon as there is room for it."""
        if call.is_over:
            return
        if not call.is_begun:
            call.is_begun = True
            self.write(frame(HEADERS, END_HEADERS, call.id, RESPONSE))
        size = len(message) + 5
        if not call.outbox and size <= min(call.window, self._window, self.longest_frame) and not self._is_stuck:
            call.window -= size
            self._window -= size
            prefix = HEAD.pack(size >> 8, size & 0xFF, DATA, 0, call.id)
            self.write(prefix + b"\0" + (size - 5).to_bytes(4) + message)
            return
        call.outbox.append(memoryview(b"\0" + len(message).to_bytes(4) + message))
        self._pump(call)

    def end(self, call: Call, block: bytes) -> None:
        """The headers that end a response, behind what was said before."""
        if call.is_over or call.last is not None:
            return
        call.last = block if call.is_begun else RESPONSE + block
        if not call.outbox:
            self._end(call)

    def _end(self, call: Call) -> None:
        assert call.last is not None
        self.refuse(call.id, call.last, is_said=call.is_said)
        self._over(call)

    def refuse(self, stream: int, block: bytes, *, is_said: bool) -> None:
        """Headers that are an answer's last, whatever else the caller has to say."""
        self.write(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
        if not is_said:
            self.write(reset(stream, NO_ERROR))

    def forget(self, call: Call) -> None:
        """Whatever was to be said yet, nobody waits for it."""
        self._blocked.pop(call, None)
        call.outbox.clear()

    def _pump(self, call: Call) -> None:
        """Say what there is room for."""
        outbox, said = call.outbox, 0
        while outbox:
            room = min(call.window, self._window, self.longest_frame)
            if room <= 0 or self._is_stuck:
                self._blocked[call] = None
                return
            part = outbox[0][:room]
            if len(part) == len(outbox[0]):
                outbox.popleft()
            else:
                outbox[0] = outbox[0][room:]
            call.window -= len(part)
            self._window -= len(part)
            self.write(frame(DATA, 0, call.id, bytes(part)))
            said += len(part)
            if said >= _AT_ONCE:
                said = 0
                self.flush()  # which tells whether the system takes more
        self._blocked.pop(call, None)
        call.wake()
        if call.last is not None:
            self._end(call)

    def _pump_all(self) -> None:
        """Those that waited longest come first."""
        for call in list(self._blocked):
            if self._window <= 0 or self._is_stuck:
                return
            self._blocked.pop(call, None)
            self._pump(call)
