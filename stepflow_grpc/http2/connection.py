"""One connection that speaks HTTP/2, from its greeting to its end."""

import asyncio
import logging
from math import inf
from typing import Any, assert_never

from stepflow.protocols import Clock
from stepflow_grpc.http2.answering import CLOSING, Answering, Calls
from stepflow_grpc.http2.body import Body
from stepflow_grpc.http2.call import ROOM, Call
from stepflow_grpc.http2.framing import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FIRST_WINDOW,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HAS_PRIORITY,
    HEAD,
    HEAD_SIZE,
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
from stepflow_grpc.http2.headers import LONGEST, RESPONSE, Head, HeaderReader, http_answer, trailers
from stepflow_grpc.http2.methods import Ended, Find, Rpc, Status, TooLong
from stepflow_grpc.http2.silence import Patience, Silence, Verdict
from stepflow_grpc.http2.writing import Writer

logger = logging.getLogger("stepflow.server")

_ROOM_OF_ALL = 16 * ROOM
"""Bytes that a caller may send on all its streams before they are read."""

_LONGEST_BLOCK = 4 * LONGEST  # of headers in several frames, as they are sent
_MOST_IDLE_FRAMES = 10_000
"""In a second: frames that ask for work and bring none. No client says so many."""

_MOST_UNREAD = 1024 * 1024
"""Bytes that wait to be read by one who makes us say more and more."""

_MOST_IDLE_FRAMES_UNREAD = 1_000
"""In a second, of one who has so much to read: who takes a large answer asks, while it comes, how fast it does."""

_SOON_S = 0.001
_PING = b"stepflow"


class Connection(asyncio.Protocol):
    """Reads what a caller says, has its calls answered, and says the answers.

    Args:
        find: the services.
        calls: those of all connections.
        longest_message: bytes of one message of a request.
        most_streams: calls at a time.
    """

    def __init__(
        self, find: Find, clock: Clock, patience: Patience, calls: Calls, *, longest_message: int, most_streams: int
    ) -> None:
        self._find = find
        self._clock = clock
        self._longest_message = longest_message
        self._most_streams = most_streams
        self._silence = Silence(patience, clock.now())
        self._is_closed = asyncio.Event()
        self._answering = Answering(calls)
        self._calls: dict[int, Call] = {}
        self._last_id = 0
        self._is_leaving = False  # no more calls are taken
        self._is_over = False  # nothing more is read
        self._rest = b""
        self._greeting = PREFACE
        self._headers = HeaderReader()
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags and what came of its headers yet
        self._room = _ROOM_OF_ALL
        self._second, self._idle_frames = self._silence.began_at, 0
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

    # The transport

    def connection_made(self, transport: Any) -> None:
        """Greet. The preface is expected, as every byte that comes."""
        self._transport = transport
        name = transport.get_extra_info("peername")
        self._peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
        self._writer = Writer(transport, self._drop)
        ours = {
            MAX_CONCURRENT_STREAMS: self._most_streams,
            INITIAL_WINDOW_SIZE: ROOM,
            MAX_FRAME_SIZE: SMALLEST_FRAME,
            MAX_HEADER_LIST_SIZE: LONGEST,
        }
        self._writer.write(settings(ours) + window_update(0, _ROOM_OF_ALL - FIRST_WINDOW))

    def data_received(self, data: bytes) -> None:
        self._silence.heard_at = self._clock.now()
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
        for call in list(self._calls.values()):
            self._drop(call)
        self._answering.cancel()
        self._is_closed.set()

    def pause_writing(self) -> None:
        self._silence.stuck_at = self._clock.now()
        self._writer.pause()

    def resume_writing(self) -> None:
        self._silence.stuck_at = inf
        self._writer.resume()

    # The end

    def leave(self) -> None:
        """Take no more calls, and close the connection once those that are here are answered."""
        if not self._is_leaving:
            self._is_leaving = True
            self._writer.write(goaway(self._last_id, NO_ERROR))
            self._close_if_done()

    def give_up(self) -> None:
        """End the calls that are here, and then the connection."""
        self.leave()
        for call in list(self._calls.values()):
            if call.task is None:
                call.fail(CLOSING)
        self._answering.cancel()

    def abort(self) -> None:
        """Close the connection at once."""
        if not self._is_closed.is_set():  # a transport that was lost after its last words has no loop any more
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Return once the connection is lost and all that worked for it has ended."""
        await self._is_closed.wait()
        await self._answering.ended()

    def _break(self, code: int, text: str) -> None:
        """The other side can't be understood any more."""
        self._is_leaving = True
        self._writer.write(goaway(self._last_id, code, text))
        self._close()
        self._answering.cancel()

    def _close_if_done(self) -> None:
        if self._is_leaving and not self._calls and not self._is_over:
            self._close()

    def _close(self) -> None:
        """What was said goes out yet, if the other side reads it."""
        self._is_over = True
        self._writer.flush()
        self._transport.close()
        self._silence.closed_at = self._clock.now()

    async def watch(self) -> None:
        """Close the connection when its caller has gone, or says nothing for too long. Returns once it is lost."""
        while not self._is_closed.is_set():
            due_s = self._silence.due_at() - self._clock.now()
            if due_s <= 0:
                self._obey(self._silence.verdict(self._clock.now()))
                due_s = _SOON_S
            with self._clock.timeout(due_s):
                await self._is_closed.wait()

    def _obey(self, verdict: Verdict) -> None:
        match verdict:
            case Verdict.CUT:
                self.abort()
            case Verdict.LEAVE:
                self.leave()
            case Verdict.ASK:
                self._silence.asked_at = self._clock.now()
                self._writer.write(frame(PING, 0, 0, _PING))
            case Verdict.WAIT:
                pass
            case _:
                assert_never(verdict)

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
        if self._silence.heard_at - self._second >= 1.0:
            self._second, self._idle_frames = self._silence.heard_at, 0
        self._idle_frames += 1
        many = self._idle_frames > _MOST_IDLE_FRAMES_UNREAD
        if many and (self._idle_frames > _MOST_IDLE_FRAMES or self._writer.unread_bytes > _MOST_UNREAD):
            raise ConnectionProblem(ENHANCE_YOUR_CALM, "too many frames that bring nothing")

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        self._count_idle()
        if stream:
            raise ConnectionProblem(PROTOCOL_ERROR, "settings of a stream")
        if flags & ACK:
            if payload:
                raise ConnectionProblem(FRAME_SIZE_ERROR, "an acknowledgement that says more")
            return
        values = read_settings(payload)
        self._writer.write(frame(SETTINGS, ACK, 0))  # before anything that is said by them
        for name, value in values:
            if name == INITIAL_WINDOW_SIZE:
                self._writer.set_first_window(value, self._calls.values())
            elif name == MAX_FRAME_SIZE:
                if not SMALLEST_FRAME <= value <= LONGEST_FRAME:
                    raise ConnectionProblem(PROTOCOL_ERROR, f"frames of {value} bytes")
                self._writer.longest_frame = value
        self._silence.greeted_at = self._silence.heard_at

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        self._count_idle()
        if stream or len(payload) != len(_PING):
            raise ConnectionProblem(FRAME_SIZE_ERROR if not stream else PROTOCOL_ERROR, "a ping that is none")
        if flags & ACK:
            self._silence.asked_at = inf
        else:
            self._writer.write(frame(PING, ACK, 0, payload))

    def _take_window(self, flags: int, stream: int, payload: bytes) -> None:
        increment = number(payload) & WIDEST_WINDOW
        if not stream:
            self._writer.widen(increment)
        elif (call := self._known(stream)) is not None:
            self._writer.widen_stream(call, increment)
        else:
            self._count_idle()

    def _known(self, stream: int) -> Call | None:
        """None: the call is over. Raises: ConnectionProblem, where there never was one."""
        call = self._calls.get(stream)
        if call is None and (stream > self._last_id or not stream & 1):
            raise ConnectionProblem(PROTOCOL_ERROR, f"stream {stream} was never opened")
        return call

    def _take_reset(self, flags: int, stream: int, payload: bytes) -> None:
        self._count_idle()
        number(payload)
        self._known(stream)
        self._forsake(stream)

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
        if self._is_leaving or max(len(self._calls), len(self._answering)) >= self._most_streams:
            raise StreamProblem(REFUSED_STREAM, "no more calls are taken now")
        is_said = bool(flags & END_STREAM)
        try:
            rpc = self._found(head)
        except Ended as ended:
            self._writer.refuse(stream, RESPONSE + trailers(ended.code, ended.message, ended.metadata), is_said=is_said)
            return
        if rpc is None:
            self._writer.refuse(stream, http_answer(head.refused), is_said=is_said)
            return
        body = Body(self._longest_message, head.encoding)
        call = self._calls[stream] = Call(stream, head, rpc, body, self._writer, self._make_room)
        self._silence.idle_since = inf
        if head.timeout_s is not None:
            self._answering.expect(call, head.timeout_s)
        if rpc.takes_stream:
            self._answering.begin(call, call)
        if is_said:
            self._said(call, [])

    def _found(self, head: Head) -> Rpc | None:
        """None: it is no call of gRPC. Raises: Ended."""
        if head.refused:
            return None
        if self._answering.is_full:
            raise Ended(Status.RESOURCE_EXHAUSTED, "too many calls are under way: try again")
        found = self._find(head)
        if found is None:
            raise Ended(Status.UNIMPLEMENTED, f"there is no method {head.path[:200]}")
        return found

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
        if self._room < _ROOM_OF_ALL // 2:
            if self._room < 0:
                raise ConnectionProblem(FLOW_CONTROL_ERROR, "more than was allowed")
            self._writer.write(window_update(0, _ROOM_OF_ALL - self._room))
            self._room = _ROOM_OF_ALL
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
            if isinstance(ended, TooLong) and call.rpc.on_too_long is not None:
                call.rpc.on_too_long(ended, self._peer)
            self._fail_request(call, ended)
            return
        if flags & END_STREAM:
            self._said(call, messages)
            return
        if messages:
            self._heard(call, messages)
        self._make_room(call)

    def _make_room(self, call: Call) -> None:
        """Let its caller send more, unless much is unread."""
        if call.room < ROOM // 2 and call.held_bytes < ROOM and not (call.is_said or call.is_over):
            self._writer.write(window_update(call.id, ROOM - call.room))
            call.room = ROOM

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
            self._answering.begin(call, messages[0])
        else:
            call.take(messages)
            if call.held_messages == 1:
                self._answering.begin(call, call.pop())
            else:
                self._fail_request(call, _NOT_ONE)

    def _fail_request(self, call: Call, ended: Ended) -> None:
        if call.task is None:
            call.fail(ended)
        else:
            call.fail_reading(ended)

    # Calls

    def _reset(self, stream: int, code: int) -> None:
        """End a call without an answer: its caller broke the rules, or has to come again."""
        self._writer.write(reset(stream, code))
        self._forsake(stream)

    def _forsake(self, stream: int) -> None:
        """Nobody waits for this call any more."""
        call = self._calls.get(stream)
        if call is not None:
            self._drop(call)
            if call.task is not None:
                call.task.cancel()

    def _drop(self, call: Call) -> None:
        """The call is over, whether or not somebody works for it yet."""
        del self._calls[call.id]
        call.is_over = True
        self._writer.forget(call)
        if call.timer is not None:
            call.timer.cancel()
        call.wake()
        if not self._calls:
            self._silence.idle_since = self._clock.now()
            self._close_if_done()


_NOT_ONE = Ended(Status.UNIMPLEMENTED, "this method takes one message")
