"""One connection that speaks HTTP/2, from its greeting to its end."""

import asyncio
import logging
from contextlib import aclosing
from math import inf
from typing import Any

import msgspec

from stepflow.protocols import Clock
from stepflow_grpc.http2.call import Call
from stepflow_grpc.http2.framing import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FIRST_WINDOW,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HAS_PRIORITY,
    HEAD,
    HEAD_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    LONGEST_FRAME,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    NO_ERROR,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
    SMALLEST_FRAME,
    STREAM_CLOSED,
    WIDEST_WINDOW,
    ConnectionProblem,
    StreamProblem,
    frame,
    goaway,
    number,
    read_settings,
    reset,
    settings,
    unpadded,
    window_update,
)
from stepflow_grpc.http2.headers import FINE, LONGEST, RESPONSE, Head, HeaderReader, http_answer, trailers
from stepflow_grpc.http2.methods import Ended, Find, Rpc, Status

logger = logging.getLogger("stepflow.server")

_WINDOW = 1024 * 1024
"""Bytes that a caller may send on a stream before they are read."""

_WINDOW_OF_ALL = 16 * 1024 * 1024
_LONGEST_BLOCK = 4 * LONGEST  # of headers in several frames, as they are sent
_MOST_IDLE_FRAMES = 10_000
"""In a second: frames that ask for work and bring none. No client says so many."""

_MOST_UNREAD = 1024 * 1024
"""Bytes that wait to be read by one who makes us say more and more."""

_MOST_IDLE_FRAMES_UNREAD = 1_000
"""In a second, of one who has so much to read: who takes a large answer asks, while it comes, how fast it does."""

_CLOSING_S = 5.0
"""How long a connection that is closed may take to read what was said to it, at most."""

_PING = b"stepflow"


class Calls:
    """How many calls are under way on all connections."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0


class Patience(msgspec.Struct, frozen=True):
    """How long a connection may be silent, in seconds."""

    greeting_s: float
    keepalive_s: float
    keepalive_answer_s: float
    idle_s: float


class Connection(asyncio.Protocol):
    """Reads what a caller says, has its calls answered, and says the answers.

    Args:
        find: the services.
        longest_message: bytes of one message of a request.
        most_streams: calls at a time.
    """

    def __init__(
        self, find: Find, clock: Clock, patience: Patience, calls: Calls, *, longest_message: int, most_streams: int
    ) -> None:
        self.longest_message = longest_message
        self.peer = ""
        self.is_closed = asyncio.Event()
        self._find = find
        self._clock = clock
        self._patience = patience
        self._all_calls = calls
        self._most_streams = most_streams
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._calls: dict[int, Call] = {}
        self._at_work: dict[asyncio.Task[None], None] = {}
        self._reading()
        self._writing()
        self._times()

    def _reading(self) -> None:
        self._rest = b""
        self._greeting = PREFACE
        self._headers = HeaderReader()
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags and what came of its headers yet
        self._last_id = 0
        self._room = FIRST_WINDOW
        self._is_over = False  # nothing more is read
        self._is_leaving = False  # no more calls are taken
        self._takers = (
            self._take_data,
            self._take_headers,
            self._ignore,  # PRIORITY
            self._take_reset,
            self._take_settings,
            self._refuse,  # PUSH_PROMISE
            self._take_ping,
            self._ignore,  # GOAWAY: it makes no more calls; those that it made are answered
            self._take_window,
            self._take_continuation,
        )

    def _writing(self) -> None:
        self._out: list[bytes] = []
        self._window = FIRST_WINDOW
        self._first_window = FIRST_WINDOW  # of a stream
        self._longest_frame = SMALLEST_FRAME
        self._blocked: dict[Call, None] = {}
        self._is_paused = False

    def _times(self) -> None:
        now = self._clock.now()
        self._heard_at = self._idle_since = now
        self._greeted_at: float | None = None
        self._began_at = now
        self._pinged_at: float | None = None
        self._paused_at = self._closed_at = inf
        self._second, self._idle_frames = now, 0

    # The transport

    def connection_made(self, transport: Any) -> None:
        """Greet. The preface is expected, as every byte that comes."""
        self._transport = transport
        name = transport.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
        ours = {
            MAX_CONCURRENT_STREAMS: self._most_streams,
            INITIAL_WINDOW_SIZE: _WINDOW,
            MAX_FRAME_SIZE: SMALLEST_FRAME,
            MAX_HEADER_LIST_SIZE: LONGEST,
        }
        self._write(settings(ours) + window_update(0, _WINDOW_OF_ALL - FIRST_WINDOW))
        self._room = _WINDOW_OF_ALL

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._clock.now()
        if self._is_over:
            return
        try:
            self._read(self._rest + data if self._rest else data)
        except ConnectionProblem as problem:
            self._break(problem.code, str(problem))
        except Exception:
            logger.exception("a connection is closed: it could not be read")
            self._break(INTERNAL_ERROR, "")

    def connection_lost(self, error: Exception | None) -> None:
        self._is_over = self._is_leaving = True
        self._calls.clear()
        self._blocked.clear()
        for task in self._at_work:
            task.cancel()
        self.is_closed.set()

    def pause_writing(self) -> None:
        self._is_paused = True
        self._paused_at = self._clock.now()

    def resume_writing(self) -> None:
        self._is_paused = False
        self._paused_at = inf
        self._pump_all()

    async def wait_closed(self) -> None:
        """Return once the connection is lost and all that worked for it has ended."""
        await self.is_closed.wait()
        while self._at_work:
            await asyncio.wait(list(self._at_work))

    # The end

    def leave(self) -> None:
        """Take no more calls, and close the connection once those that are here are answered."""
        if not self._is_leaving:
            self._is_leaving = True
            self._write(goaway(self._last_id, NO_ERROR))
            self._close_if_done()

    def give_up(self) -> None:
        """End the calls that are here, and then the connection."""
        self.leave()
        for call in list(self._calls.values()):
            if call.task is None:
                call.fail(_CLOSING)
        for task in list(self._at_work):
            task.cancel()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def _break(self, code: int, text: str) -> None:
        """The other side can't be understood any more."""
        self._is_over = self._is_leaving = True
        self._write(goaway(self._last_id, code, text))
        self._close()
        for task in self._at_work:
            task.cancel()

    def _close_if_done(self) -> None:
        if self._is_leaving and not self._calls:
            self._is_over = True
            self._close()

    def _close(self) -> None:
        """What was said goes out yet, if the other side reads it."""
        self._flush()
        self._transport.close()
        self._closed_at = self._clock.now()

    async def watch(self) -> None:
        """Close the connection when its caller has gone, or says nothing for too long. Returns once it is lost."""
        while not self.is_closed.is_set():
            due_s = self._due_at() - self._clock.now()
            if due_s <= 0:
                self._look(self._clock.now())
                due_s = 0.001
            with self._clock.timeout(due_s):
                await self.is_closed.wait()

    def _due_at(self) -> float:
        patience = self._patience
        dues = [self._closed_at + _CLOSING_S, self._paused_at + patience.keepalive_s + patience.keepalive_answer_s]
        if self._greeted_at is None:
            dues.append(self._began_at + patience.greeting_s)
        if self._pinged_at is None:
            dues.append(self._heard_at + patience.keepalive_s)
        else:
            dues.append(self._pinged_at + patience.keepalive_answer_s)
        if not self._calls:
            dues.append(self._idle_since + patience.idle_s)
        return min(dues)

    def _look(self, now: float) -> None:
        patience = self._patience
        is_silent = self._greeted_at is None and now >= self._began_at + patience.greeting_s
        is_stuck = now >= self._paused_at + patience.keepalive_s + patience.keepalive_answer_s
        if is_silent or is_stuck or now >= self._closed_at + _CLOSING_S:
            self.abort()
        elif self._pinged_at is not None:
            if now >= self._pinged_at + patience.keepalive_answer_s:
                self.abort()
        elif now >= self._heard_at + patience.keepalive_s:
            self._pinged_at = now
            self._write(frame(PING, 0, 0, _PING))
        if not self._calls and now >= self._idle_since + patience.idle_s:
            self.leave()

    # Reading

    def _read(self, data: bytes) -> None:
        at = 0
        if self._greeting:
            at = min(len(self._greeting), len(data))
            if not self._greeting.startswith(data[:at]):
                raise ConnectionProblem(PROTOCOL_ERROR, "no greeting of HTTP/2")
            self._greeting = self._greeting[at:]
        size = len(data)
        while size - at >= HEAD_SIZE and not self._is_over:
            high, low, kind, flags, stream = HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > SMALLEST_FRAME:
                raise ConnectionProblem(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = at + HEAD_SIZE + length
            if end > size:
                break
            if (self._block is not None) != (kind == CONTINUATION):
                raise ConnectionProblem(PROTOCOL_ERROR, "headers that are broken off, or go on without having begun")
            stream &= WIDEST_WINDOW
            try:
                (self._takers[kind] if kind < len(self._takers) else self._ignore)(
                    flags, stream, data[at + HEAD_SIZE : end]
                )
            except StreamProblem as problem:
                self._reset(stream, problem.code)
            at = end
        self._rest = data[at:] if at < size else b""

    def _ignore(self, flags: int, stream: int, payload: bytes) -> None:
        self._count_idle()

    def _refuse(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionProblem(PROTOCOL_ERROR, "a client pushes nothing")

    def _count_idle(self) -> None:
        """One more frame that asks for work and brings none."""
        if self._heard_at - self._second >= 1.0:
            self._second, self._idle_frames = self._heard_at, 0
        self._idle_frames += 1
        many = self._idle_frames > _MOST_IDLE_FRAMES_UNREAD
        if many and (self._idle_frames > _MOST_IDLE_FRAMES or self._unread() > _MOST_UNREAD):
            raise ConnectionProblem(ENHANCE_YOUR_CALM, "too many frames that bring nothing")

    def _unread(self) -> int:
        found: int = self._transport.get_write_buffer_size()
        return found + sum(map(len, self._out))

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        self._count_idle()
        if stream:
            raise ConnectionProblem(PROTOCOL_ERROR, "settings of a stream")
        if flags & ACK:
            if payload:
                raise ConnectionProblem(FRAME_SIZE_ERROR, "an acknowledgement that says more")
            return
        for name, value in read_settings(payload):
            if name == INITIAL_WINDOW_SIZE:
                self._set_first_window(value)
            elif name == MAX_FRAME_SIZE:
                if not SMALLEST_FRAME <= value <= LONGEST_FRAME:
                    raise ConnectionProblem(PROTOCOL_ERROR, f"frames of {value} bytes")
                self._longest_frame = value
        if self._greeted_at is None:
            self._greeted_at = self._heard_at
        self._write(frame(SETTINGS, ACK, 0))

    def _set_first_window(self, size: int) -> None:
        if size > WIDEST_WINDOW:
            raise ConnectionProblem(FLOW_CONTROL_ERROR, f"a window of {size} bytes")
        more = size - self._first_window
        self._first_window = size
        for call in self._calls.values():
            call.window += more
            if call.window > WIDEST_WINDOW:
                raise ConnectionProblem(FLOW_CONTROL_ERROR, "a window that is too wide")
        self._pump_all()

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        self._count_idle()
        if stream or len(payload) != len(_PING):
            raise ConnectionProblem(FRAME_SIZE_ERROR if not stream else PROTOCOL_ERROR, "a ping that is none")
        if flags & ACK:
            self._pinged_at = None
        else:
            self._write(frame(PING, ACK, 0, payload))

    def _take_window(self, flags: int, stream: int, payload: bytes) -> None:
        increment = number(payload) & WIDEST_WINDOW
        if not stream:
            self._window += increment
            if not increment or self._window > WIDEST_WINDOW:
                raise ConnectionProblem(FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR, "a window that is wrong")
            self._pump_all()
            return
        call = self._known(stream)
        if call is None:
            self._count_idle()
            return
        call.window += increment
        if not increment or call.window > WIDEST_WINDOW:
            raise StreamProblem(FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR, "a window that is wrong")
        if call.outbox:
            self._pump(call)

    def _known(self, stream: int) -> Call | None:
        """None: the call is over. Raises: ConnectionProblem, where there never was one."""
        call = self._calls.get(stream)
        if call is None and (stream > self._last_id or not stream & 1):
            raise ConnectionProblem(PROTOCOL_ERROR, f"stream {stream} was never opened")
        return call

    def _take_reset(self, flags: int, stream: int, payload: bytes) -> None:
        self._count_idle()
        number(payload)
        call = self._known(stream)
        if call is not None:
            self._drop(call)
            if call.task is not None:
                call.task.cancel()

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream & 1:
            raise ConnectionProblem(PROTOCOL_ERROR, f"a client opens no stream {stream}")
        payload = unpadded(flags, payload)
        if flags & HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionProblem(FRAME_SIZE_ERROR, "a priority that breaks off")
            payload = payload[5:]
        if flags & END_HEADERS:
            self._open(flags, stream, payload)
        else:
            self._block = (stream, flags, bytearray(payload))

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        assert self._block is not None
        opened, first_flags, found = self._block
        self._count_idle()
        found += payload
        if stream != opened or len(found) > _LONGEST_BLOCK:
            raise ConnectionProblem(PROTOCOL_ERROR, "headers that go on and on, or of two streams at a time")
        if flags & END_HEADERS:
            self._block = None
            self._open(first_flags, stream, bytes(found))

    def _open(self, flags: int, stream: int, block: bytes) -> None:
        if stream <= self._last_id:
            self._take_trailers(flags, stream, block)
            return
        self._last_id = stream
        head = self._headers.read(block)
        if self._is_leaving or max(len(self._calls), len(self._at_work)) >= self._most_streams:
            raise StreamProblem(REFUSED_STREAM, "no more calls are taken now")
        is_said = bool(flags & END_STREAM)
        try:
            rpc = self._found(head)
        except Ended as ended:
            self._refuse_call(stream, RESPONSE + trailers(ended.code, ended.message, ended.metadata), is_said=is_said)
            return
        if rpc is None:
            self._refuse_call(stream, http_answer(head.refused), is_said=is_said)
            return
        call = self._calls[stream] = Call(self, stream, head, rpc, self._first_window, _WINDOW)
        if head.timeout_s is not None:
            call.timer = self._loop.call_later(head.timeout_s, self._be_late, call)
        if rpc.takes_stream:
            self._begin(call, call)
        if is_said:
            self._said(call, [])

    def _found(self, head: Head) -> Rpc | None:
        """None: it is no call of gRPC. Raises: Ended."""
        if head.refused:
            return None
        if self._all_calls.count >= self._all_calls.most:
            raise Ended(Status.RESOURCE_EXHAUSTED, "too many calls are under way: try again")
        found = self._find(head)
        if found is None:
            raise Ended(Status.UNIMPLEMENTED, f"there is no method {head.path[:200]}")
        return found

    def _refuse_call(self, stream: int, block: bytes, *, is_said: bool) -> None:
        self._write(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
        if not is_said:
            self._write(reset(stream, NO_ERROR))

    def _take_trailers(self, flags: int, stream: int, block: bytes) -> None:
        """A second block of headers, which says nothing here but that the request is at its end."""
        self._count_idle()
        self._headers.decode(block)
        call = self._known(stream)
        if call is None:
            return
        if call.is_said or not flags & END_STREAM:
            raise StreamProblem(PROTOCOL_ERROR, "headers in the midst of a request")
        self._said(call, [])

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        if not size and not flags & END_STREAM:
            self._count_idle()
        self._room -= size
        if self._room < _WINDOW_OF_ALL // 2:
            if self._room < 0:
                raise ConnectionProblem(FLOW_CONTROL_ERROR, "more than was allowed")
            self._write(window_update(0, _WINDOW_OF_ALL - self._room))
            self._room = _WINDOW_OF_ALL
        call = self._known(stream)
        if call is None:
            return
        if call.is_said:
            raise StreamProblem(STREAM_CLOSED, "more than the last")
        call.room -= size
        if call.room < 0:
            raise StreamProblem(FLOW_CONTROL_ERROR, "more than was allowed")
        try:
            messages = call.body.feed(unpadded(flags, payload))
        except Ended as ended:
            self._fail_request(call, ended)
            return
        if flags & END_STREAM:
            self._said(call, messages)
            return
        if messages:
            self._heard(call, messages)
        self.make_room(call)

    def make_room(self, call: Call) -> None:
        """Let its caller send more, unless much is unread."""
        if call.room < _WINDOW // 2 and call.held_bytes < _WINDOW and not call.is_said and call.id in self._calls:
            self._write(window_update(call.id, _WINDOW - call.room))
            call.room = _WINDOW

    def _heard(self, call: Call, messages: list[bytes]) -> None:
        """Messages of a call that goes on. The one of a unary call waits for its end."""
        call.take(messages)
        if not call.rpc.takes_stream and call.held_messages > 1:
            self._fail_request(call, _NOT_ONE)

    def _said(self, call: Call, messages: list[bytes]) -> None:
        """The caller has said its last."""
        call.is_said = True
        if not call.body.is_whole:
            self._fail_request(call, Ended(Status.INTERNAL, "the request breaks off in a message"))
        elif call.rpc.takes_stream:
            call.take(messages)
        elif len(messages) == 1 and not call.held_messages:
            self._begin(call, messages[0])
        else:
            call.take(messages)
            if call.held_messages == 1:
                self._begin(call, call.pop())
            else:
                self._fail_request(call, _NOT_ONE)

    def _fail_request(self, call: Call, ended: Ended) -> None:
        if call.task is None:
            call.fail(ended)
        else:
            call.fail_reading(ended)

    # Answering

    def _begin(self, call: Call, request: Any) -> None:
        self._all_calls.count += 1
        call.task = task = self._loop.create_task(self._answer(call, request))
        self._at_work[task] = None
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        del self._at_work[task]
        self._all_calls.count -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a call was left without its answer", exc_info=error)

    async def _answer(self, call: Call, request: Any) -> None:
        try:
            if call.rpc.streams:
                async with aclosing(call.rpc.answer(request, call)) as messages:
                    async for message in messages:
                        await call.send(message)
                call.finish()
            else:
                self.reply(call, await call.rpc.answer(request, call))
        except Ended as ended:
            call.fail(ended)
        except asyncio.CancelledError:
            if call.is_late:
                call.fail(Ended(Status.DEADLINE_EXCEEDED, "the time that the caller gave is over"))
            else:
                call.fail(_CLOSING)
            raise
        except Exception as error:
            logger.exception("%s failed", call.head.path)
            call.fail(Ended(Status.INTERNAL, f"internal error: {type(error).__name__}"))

    def _be_late(self, call: Call) -> None:
        call.is_late = True
        if call.task is not None:
            call.task.cancel()
        else:
            call.fail(Ended(Status.DEADLINE_EXCEEDED, "the request was not whole in the time that the caller gave"))

    def _reset(self, stream: int, code: int) -> None:
        """End a call without an answer: its caller broke the rules, or has to come again."""
        self._write(reset(stream, code))
        call = self._calls.get(stream)
        if call is not None:
            self._drop(call)
            if call.task is not None:
                call.task.cancel()

    def _drop(self, call: Call) -> None:
        """The call is over, whether or not somebody works for it yet."""
        if self._calls.pop(call.id, None) is None:
            return
        self._blocked.pop(call, None)
        if call.timer is not None:
            call.timer.cancel()
        call.outbox.clear()
        call.wake()
        if not self._calls:
            self._idle_since = self._clock.now()
            self._close_if_done()

    # Writing

    def reply(self, call: Call, message: bytes) -> None:
        """The whole of a response of one message."""
        size = len(message) + 5
        if size > min(call.window, self._window, self._longest_frame) or self._is_paused:
            self.say(call, message)
            self.end(call, FINE)
        elif call.id in self._calls:
            self._window -= size
            id = call.id
            pack = HEAD.pack
            parts = (
                pack(0, len(RESPONSE), HEADERS, END_HEADERS, id),
                RESPONSE,
                pack(size >> 8, size & 0xFF, DATA, 0, id),
                b"\0",
                (size - 5).to_bytes(4),
                message,
                pack(0, len(FINE), HEADERS, END_HEADERS | END_STREAM, id),
                FINE,
            )
            self._write(b"".join(parts))
            self._drop(call)

    def say(self, call: Call, message: bytes) -> None:
        """One message of a response, as soon as there is room for it."""
        if call.id not in self._calls:
            return
        self._begin_response(call)
        call.outbox.append(memoryview(b"\0" + len(message).to_bytes(4) + message))
        self._pump(call)

    def _begin_response(self, call: Call) -> None:
        if not call.is_begun:
            call.is_begun = True
            self._write(frame(HEADERS, END_HEADERS, call.id, RESPONSE))

    def end(self, call: Call, block: bytes) -> None:
        """The headers that end a response, behind what was said before."""
        if call.id not in self._calls or call.last is not None:
            return
        call.last = block if call.is_begun else RESPONSE + block
        if not call.outbox:
            self._end(call)

    def _end(self, call: Call) -> None:
        assert call.last is not None
        self._write(frame(HEADERS, END_HEADERS | END_STREAM, call.id, call.last))
        if not call.is_said:
            self._write(reset(call.id, NO_ERROR))
        self._drop(call)

    def _pump(self, call: Call) -> None:
        """Say what there is room for."""
        outbox = call.outbox
        while outbox:
            room = min(call.window, self._window, self._longest_frame)
            if room <= 0 or self._is_paused:
                self._blocked[call] = None
                return
            part = outbox[0][:room]
            if len(part) == len(outbox[0]):
                outbox.popleft()
            else:
                outbox[0] = outbox[0][room:]
            call.window -= len(part)
            self._window -= len(part)
            self._write(frame(DATA, 0, call.id, bytes(part)))
        self._blocked.pop(call, None)
        call.wake()
        if call.last is not None:
            self._end(call)

    def _pump_all(self) -> None:
        """Those that waited longest come first."""
        for call in list(self._blocked):
            if self._window <= 0 or self._is_paused:
                return
            del self._blocked[call]
            self._pump(call)

    def _write(self, data: bytes) -> None:
        """Say it when the loop comes round, with what else there is by then."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out = self._out
        if out and not self._transport.is_closing():
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()


_CLOSING = Ended(Status.UNAVAILABLE, "the server is closing; try again")
_NOT_ONE = Ended(Status.UNIMPLEMENTED, "this method takes one message")
