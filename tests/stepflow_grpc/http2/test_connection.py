"""A connection frame by frame: what gRPC's own client never says, and what it may say otherwise."""

import asyncio
import logging
from typing import Any

import pytest
from raw_caller import raw_caller, until

from stepflow_grpc.http2.call import ROOM
from stepflow_grpc.http2.framing import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    frame,
    reset,
    settings,
    window_update,
)

pytestmark = pytest.mark.anyio

FINE = {"grpc-status": "0"}
WIDE = {INITIAL_WINDOW_SIZE: 2**31 - 1}


def framed(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4) + content


async def test_settings_are_acknowledged_and_pings_answered(port: int) -> None:
    async with raw_caller(port) as caller:
        caller.greet()
        caller.say(frame(PING, 0, 0, b"12345678"))

        assert (await caller.hears(SETTINGS)).flags == 0
        assert (await caller.hears(SETTINGS)).flags == ACK
        ping = await caller.hears(PING)

    assert (ping.flags, ping.payload) == (ACK, b"12345678")


async def test_frames_may_come_byte_by_byte(port: int) -> None:
    async with raw_caller(port) as caller:
        said = PREFACE + settings({}) + frame(HEADERS, END_HEADERS, 1, caller.block("/e/Echo"))
        for byte in said + frame(DATA, END_STREAM, 1, framed(b"hello")):
            caller.say(bytes([byte]))
            await asyncio.sleep(0)

        assert await caller.answer() == (framed(b"hello"), FINE)


async def test_headers_may_come_in_pieces_and_with_what_nobody_needs(port: int) -> None:
    async with raw_caller(port) as caller:
        caller.greet()
        block = caller.block("/e/Meta", x_a="1")
        padded = bytes([3]) + b"\0\0\0\0\1" + block[:4] + b"\0\0\0"
        caller.say(frame(HEADERS, PADDED | HAS_PRIORITY, 1, padded))
        caller.say(frame(CONTINUATION, 0, 1, block[4:6]), frame(CONTINUATION, END_HEADERS, 1, block[6:]))
        caller.say(frame(PRIORITY, 0, 1, b"\0" * 5), frame(0xFA, 0xFF, 1, b"unknown"))
        caller.say(frame(DATA, PADDED, 1, bytes([2]) + framed(b"")[:3] + b"\0\0"))
        caller.say(frame(DATA, 0, 1, framed(b"")[3:]))
        caller.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, caller.encoder.encode([("x-trailer", "1")])))

        assert await caller.answer() == (framed(b"[('x-a', '1')]"), FINE)


async def test_several_calls_may_be_said_at_a_time_and_in_turns(port: int) -> None:
    async with raw_caller(port) as caller:
        caller.greet()
        for stream in (1, 3, 5):
            caller.call(stream, "/e/Echo")
        for stream in (5, 1, 3):
            caller.message(stream, b"%d" % stream)

        assert [(await caller.answer())[0] for _ in range(3)] == [framed(b"5"), framed(b"1"), framed(b"3")]


BROKEN = {
    "settings of a stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "half a setting": (frame(SETTINGS, 0, 0, b"123"), FRAME_SIZE_ERROR),
    "settings that are acknowledged and more": (frame(SETTINGS, ACK, 0, b"123456"), FRAME_SIZE_ERROR),
    "a window that is too wide": (settings({INITIAL_WINDOW_SIZE: 2**31}), FLOW_CONTROL_ERROR),
    "frames that are too short": (settings({MAX_FRAME_SIZE: 100}), PROTOCOL_ERROR),
    "frames that are too long": (settings({MAX_FRAME_SIZE: 2**24}), PROTOCOL_ERROR),
    "a short ping": (frame(PING, 0, 0, b"1"), FRAME_SIZE_ERROR),
    "a ping of a stream": (frame(PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
    "a promise": (frame(PUSH_PROMISE, END_HEADERS, 1, b"1234"), PROTOCOL_ERROR),
    "a frame of 17 KiB": (frame(DATA, 0, 1, b"x" * 17_000), FRAME_SIZE_ERROR),
    "an even stream": (frame(HEADERS, END_HEADERS, 2, b""), PROTOCOL_ERROR),
    "headers of no stream": (frame(HEADERS, END_HEADERS, 0, b""), PROTOCOL_ERROR),
    "data of a stream that was never opened": (frame(DATA, 0, 9, b"x"), PROTOCOL_ERROR),
    "a reset of one": (reset(9, 8), PROTOCOL_ERROR),
    "a window of one": (window_update(9, 1), PROTOCOL_ERROR),
    "no more room": (window_update(0, 0), PROTOCOL_ERROR),
    "too much room": (window_update(0, 2**31 - 1), FLOW_CONTROL_ERROR),
    "a short window": (frame(WINDOW_UPDATE, 0, 0, b"12"), FRAME_SIZE_ERROR),
    "a short reset": (frame(RST_STREAM, 0, 1, b"12"), FRAME_SIZE_ERROR),
    "a continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1), PROTOCOL_ERROR),
    "headers that break off": (frame(HEADERS, 0, 1, b"\x83") + frame(PING, 0, 0, b"12345678"), PROTOCOL_ERROR),
    "headers of two streams": (frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 3), PROTOCOL_ERROR),
    "headers without an end": (frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, b"x" * 16_384) * 5, PROTOCOL_ERROR),
    "a priority that breaks off": (frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"12"), FRAME_SIZE_ERROR),
    "headers that can't be read": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff"), COMPRESSION_ERROR),
    "more padding than data": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09abc"), PROTOCOL_ERROR),
}


@pytest.mark.parametrize("said", BROKEN)
async def test_what_can_not_be_understood_ends_the_connection_with_the_reason(port: int, said: str) -> None:
    broken, code = BROKEN[said]
    async with raw_caller(port) as caller:
        caller.greet()
        caller.say(broken)

        assert (await caller.last_word())[0] == code
        assert await caller.is_closed()


async def test_what_breaks_the_rules_on_one_stream_ends_that_alone(port: int) -> None:
    async with raw_caller(port) as caller:
        caller.greet()
        caller.call(1, "/e/Echo", connection="close")
        first = await caller.hears(RST_STREAM)
        caller.call(3, "/e/Echo", flags=END_HEADERS | END_STREAM)
        _, empty = await caller.answer()
        caller.call(5, "/e/Wait")
        caller.message(5, b"five")
        caller.message(5, b"more than the last")
        second = await caller.hears(RST_STREAM)
        caller.call(7, "/e/Echo")
        caller.message(7, b"well")

        assert await caller.answer() == (framed(b"well"), FINE)

    assert (first.stream, first.payload[-1]) == (1, PROTOCOL_ERROR)
    assert empty["grpc-status"] == "12"
    assert (second.stream, second.payload[-1]) == (5, STREAM_CLOSED)


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([framed(b"one") + framed(b"two")], "12"),
        ([framed(b"one"), framed(b"two")], "12"),
        ([framed(b"one"), b""], "0"),
        ([framed(b"one")[:6]], "13"),
        ([b""], "12"),
    ],
    ids=["two", "two-apart", "one-and-an-end", "half", "none"],
)
async def test_a_unary_request_is_one_message(port: int, parts: list[bytes], status: str) -> None:
    async with raw_caller(port) as caller:
        caller.greet()
        caller.call(1, "/e/Echo")
        for part in parts[:-1]:
            caller.say(frame(DATA, 0, 1, part))
        caller.say(frame(DATA, END_STREAM, 1, parts[-1]))

        assert (await caller.answer())[1]["grpc-status"] == status


@pytest.mark.parametrize(
    ("more", "status"), [({"_method": "GET"}, "405"), ({"content_type": "text/html"}, "415")], ids=["GET", "html"]
)
async def test_what_is_no_call_of_grpc_is_told_so(port: int, more: dict[str, str], status: str) -> None:
    async with raw_caller(port) as caller:
        caller.greet()
        caller.call(1, "/e/Echo", **more)

        assert await caller.headers() == {":status": status}
        stopped = await caller.hears(RST_STREAM)

    assert (stopped.stream, stopped.payload[-1]) == (1, NO_ERROR)


async def test_nothing_is_said_without_room_and_all_of_it_in_the_end(port: int) -> None:
    async with raw_caller(port) as caller:
        caller.greet({INITIAL_WINDOW_SIZE: 0})
        for stream in (1, 3):
            caller.call(stream, "/e/Echo")
            caller.message(stream, b"abcdefgh")
        assert (await caller.hears(HEADERS, DATA)).kind == HEADERS
        assert (await caller.hears(HEADERS, DATA)).kind == HEADERS
        caller.say(window_update(1, 6))
        first = await caller.hears(DATA)
        caller.say(settings({INITIAL_WINDOW_SIZE: 1}))
        more = [await caller.hears(DATA) for _ in range(2)]
        caller.say(window_update(1, 100))
        rest = await caller.hears(DATA)
        ended = await caller.headers()

    assert (first.stream, first.payload) == (1, framed(b"abcdefgh")[:6])
    assert sorted((each.stream, each.payload) for each in more) == [
        (1, framed(b"abcdefgh")[6:7]),
        (3, framed(b"abcdefgh")[:1]),
    ]
    assert (rest.stream, rest.payload) == (1, framed(b"abcdefgh")[7:])
    assert ended == FINE


async def test_a_wider_window_is_acknowledged_before_it_is_made_use_of(port: int) -> None:
    """Until then the other side holds whoever says more to what it said before."""
    async with raw_caller(port) as caller:
        caller.greet({INITIAL_WINDOW_SIZE: 4})
        await caller.hears(SETTINGS)
        await caller.hears(SETTINGS)
        caller.call(1, "/e/Echo")
        caller.message(1, b"abcdefgh")
        assert (await caller.hears(DATA)).payload == framed(b"abcdefgh")[:4]
        caller.say(settings({INITIAL_WINDOW_SIZE: 100}))
        heard = [await caller.hear() for _ in range(2)]

    assert [(each.kind, each.flags) for each in heard] == [(SETTINGS, ACK), (DATA, 0)]


async def test_the_connections_room_is_shared_by_its_calls(port: int) -> None:
    async with raw_caller(port) as caller:
        caller.greet(WIDE)
        for stream in range(1, 11, 2):
            caller.call(stream, "/e/Echo")
            caller.message(stream, b"x" * 16_000)
        heard = 0
        while heard < 65_535:
            heard += len((await caller.hears(DATA)).payload)
        caller.say(frame(PING, 0, 0, b"12345678"))
        assert (await caller.hears(DATA, PING)).kind == PING
        caller.say(window_update(0, 2**20))
        while heard < 5 * 16_005:
            heard += len((await caller.hears(DATA)).payload)

    assert heard == 5 * 16_005


async def test_a_caller_that_says_more_than_it_may_is_cut_off(port: int, echo: Any) -> None:
    echo.may_read.clear()
    async with raw_caller(port) as caller:
        caller.greet()
        caller.call(1, "/e/Chat")
        for _ in range(ROOM // 16_000 + 200):
            caller.message(1, b"x" * 15_995, flags=0)
        heard = await caller.hears(RST_STREAM)

    assert (heard.stream, heard.payload[-1]) == (1, FLOW_CONTROL_ERROR)


async def test_frames_without_use_are_too_many_some_time(port: int) -> None:
    async with raw_caller(port) as caller:
        caller.greet()
        for _ in range(20_000):
            caller.say(frame(SETTINGS, 0, 0))

        assert (await caller.last_word())[0] == ENHANCE_YOUR_CALM


async def test_calls_that_are_taken_back_at_once_are_never_more_than_there_may_be(open_front: Any, echo: Any) -> None:
    """A caller that opens and resets streams can't have more work done at a time than one that waits."""
    async with open_front(streams=5) as (front, port), raw_caller(port) as caller:
        caller.greet()
        most = 0
        for stream in range(1, 401, 2):
            caller.call(stream, "/e/Wait")
            caller.message(stream, b"")
            caller.say(reset(stream, 8))
            if stream % 40 == 1:
                await asyncio.sleep(0.001)
                most = max(most, front.calls.count)
        caller.say(frame(PING, 0, 0, b"12345678"))
        await caller.hears(PING)
        await until(lambda: front.calls.count == 0)

        caller.call(401, "/e/Echo")
        caller.message(401, b"well")
        assert (await caller.answer()) == (framed(b"well"), FINE)

    assert most <= 5


async def test_more_calls_than_a_connection_may_have_come_again(open_front: Any) -> None:
    async with open_front(streams=2) as (_, port), raw_caller(port) as caller:
        caller.greet()
        for stream in (1, 3, 5):
            caller.call(stream, "/e/Wait")
            caller.message(stream, b"")
        refused = await caller.hears(RST_STREAM)

    assert (refused.stream, refused.payload[-1]) == (5, REFUSED_STREAM)


async def test_more_calls_than_a_server_may_have_are_told_to_try_again(open_front: Any, echo: Any) -> None:
    async with open_front(calls=2) as (_, port), raw_caller(port) as first, raw_caller(port) as second:
        for caller in (first, second):
            caller.greet()
            caller.call(1, "/e/Wait")
            caller.message(1, b"")
        await until(lambda: echo.begun == 2)
        second.call(3, "/e/Echo")
        second.message(3, b"")
        _, ended = await second.answer()
        first.say(reset(1, 8))
        await until(lambda: echo.cut)
        second.call(5, "/e/Echo")
        second.message(5, b"")
        _, after = await second.answer()

    assert (ended["grpc-status"], "try again" in ended["grpc-message"]) == ("8", True)
    assert after == FINE


async def test_a_connection_is_left_once_its_calls_are_answered(open_front: Any, echo: Any) -> None:
    async with open_front() as (front, port), raw_caller(port) as caller:
        caller.greet()
        echo.may_read.clear()
        caller.call(1, "/e/Chat")
        caller.message(1, b"first")
        await until(lambda: echo.read)
        closing = asyncio.ensure_future(front.close(60.0))
        code, last = await caller.last_word()
        caller.call(3, "/e/Echo")
        refused = await caller.hears(RST_STREAM)
        echo.may_read.set()
        heard = await caller.hears(DATA)
        ended = await caller.headers()
        assert await caller.is_closed()
        await closing

    assert (code, last) == (NO_ERROR, 1)
    assert (refused.stream, refused.payload[-1]) == (3, REFUSED_STREAM)
    assert (heard.payload, ended) == (framed(b"bye"), FINE)


async def test_last_words_that_are_read_late_leave_no_fault(open_front: Any) -> None:
    async with open_front() as (front, port), raw_caller(port) as caller:
        caller.greet(WIDE)
        caller.say(window_update(0, 2**30))
        caller.call(1, "/e/Count")
        caller.message(1, b"2500")
        await caller.hears(DATA)
        (guest,) = front._guests
        closing = asyncio.ensure_future(front.close(60.0))
        body, ended = await caller.answer()
        assert await caller.is_closed()
        await closing

    assert (len(body) > 4_000_000, ended) == (True, FINE)
    assert guest.attending.exception() is None


async def test_calls_that_take_too_long_are_told_to_try_again_when_the_server_closes(
    open_front: Any, echo: Any
) -> None:
    async with open_front() as (front, port), raw_caller(port) as caller:
        caller.greet()
        caller.call(1, "/e/Wait")
        caller.message(1, b"long")
        caller.call(3, "/e/Echo")  # of which no word comes
        await until(lambda: echo.begun)
        await front.close(0.0)
        ended = [await caller.headers() for _ in range(2)]
        assert await caller.is_closed()

    assert [each["grpc-status"] for each in ended] == ["14", "14"]
    assert echo.cut == ["long"]


async def test_a_broken_connection_cuts_its_calls_off(port: int, echo: Any) -> None:
    async with raw_caller(port) as caller:
        caller.greet()
        caller.call(1, "/e/Wait")
        caller.message(1, b"one")
        await until(lambda: echo.begun)
        caller.say(frame(PING, 0, 0, b"1"))
        await caller.last_word()

    await until(lambda: echo.cut == ["one"])


async def test_a_callers_goodbye_leaves_its_calls_alone(port: int) -> None:
    async with raw_caller(port) as caller:
        caller.greet()
        caller.call(1, "/e/Echo")
        caller.say(frame(GOAWAY, 0, 0, b"\0" * 8))
        caller.message(1, b"well")

        assert await caller.answer() == (framed(b"well"), FINE)


async def test_a_time_that_is_over_before_the_request_is_whole_ends_the_call(port: int) -> None:
    async with raw_caller(port) as caller:
        caller.greet()
        caller.call(1, "/e/Echo", grpc_timeout="50m")

        assert (await caller.headers())["grpc-status"] == "4"


async def test_a_fault_in_reading_closes_the_connection_and_is_logged(
    port: int, echo: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("stepflow_grpc.http2.connection.read_settings", broken)
    with caplog.at_level(logging.ERROR):
        async with raw_caller(port) as caller:
            caller.greet()
            assert await caller.is_closed()

    assert "a fault of ours" in caplog.text
