"""Calls as gRPC's own client makes them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from raw_caller import until

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
CODE = grpc.StatusCode


@pytest.fixture
async def channel(port: int) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as opened:
        yield opened


async def ask(channel: grpc.aio.Channel, method: str, request: bytes = b"", **more: Any) -> Any:
    return await channel.unary_unary(f"/e/{method}")(request, timeout=60, **more)


async def refusal(channel: grpc.aio.Channel, method: str, request: bytes = b"", **more: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(channel, method, request, **more)
    return raised.value


async def said(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 65_535, MIB, 5 * MIB])
async def test_messages_of_any_size_go_there_and_back(channel: grpc.aio.Channel, size: int) -> None:
    request = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    assert await ask(channel, "Echo", request) == request


async def test_many_calls_at_a_time_each_get_their_own_answer(channel: grpc.aio.Channel) -> None:
    requests = [f"{number}".encode() * (number % 50 * 100 + 1) for number in range(500)]

    assert await asyncio.gather(*(ask(channel, "Echo", request) for request in requests)) == requests


async def test_a_status_comes_with_its_words_and_what_is_beside_them(channel: grpc.aio.Channel) -> None:
    error = await refusal(channel, "Fail")

    assert (error.code(), error.details()) == (CODE.FAILED_PRECONDITION, "not – now")
    assert [tuple(pair) for pair in error.trailing_metadata() or ()] == [("x-why", "because"), ("x-bin", b"\0\xff")]


async def test_a_method_that_is_not_there_is_named(channel: grpc.aio.Channel) -> None:
    error = await refusal(channel, "None")

    assert (error.code(), error.details()) == (CODE.UNIMPLEMENTED, "there is no method /e/None")


async def test_a_fault_is_told_without_its_words(channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture) -> None:
    error = await refusal(channel, "Break")

    assert (error.code(), error.details()) == (CODE.INTERNAL, "internal error: RuntimeError")
    assert "secret-word" in caplog.text  # where the operator sees it


async def test_what_is_said_beside_a_request_arrives(channel: grpc.aio.Channel) -> None:
    metadata = (("x-a", "1"), ("x-a", "2"), ("x-b-bin", b"\0\1"))

    answers = [await ask(channel, "Meta", metadata=metadata) for _ in range(3)]

    assert answers == [b"[('x-a', '1'), ('x-a', '2'), ('x-b-bin', b'\\x00\\x01')]"] * 3


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_read(channel: grpc.aio.Channel, compression: grpc.Compression) -> None:
    assert await ask(channel, "Echo", b"again and " * 10_000, compression=compression) == b"again and " * 10_000


async def test_a_call_that_is_cancelled_is_cut_off_here(channel: grpc.aio.Channel, echo: Any) -> None:
    call = channel.unary_unary("/e/Wait")(b"cancelled")
    await until(lambda: echo.begun)
    call.cancel()

    await until(lambda: echo.cut == ["cancelled"])


async def test_a_call_whose_time_is_over_is_cut_off_here(channel: grpc.aio.Channel, echo: Any) -> None:
    await channel.channel_ready()
    for timeout_s in (0.5, 5.0, 50.0):  # the call has to come here before its time is over
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/e/Wait")(b"late", timeout=timeout_s)
        if echo.begun:
            break

    assert raised.value.code() is CODE.DEADLINE_EXCEEDED
    await until(lambda: echo.cut == ["late"])


async def test_calls_are_cut_off_when_their_connection_is_lost(port: int, echo: Any) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        waiting = [asyncio.ensure_future(ask(channel, "Wait", b"lost")) for _ in range(5)]
        await until(lambda: echo.begun == 5)
    await asyncio.wait(waiting)

    await until(lambda: echo.cut == ["lost"] * 5)
    assert all(each.cancelled() or each.exception() for each in waiting)


async def test_a_response_may_be_many_messages(channel: grpc.aio.Channel) -> None:
    heard = [message async for message in channel.unary_stream("/e/Count")(b"300", timeout=60)]

    assert heard == [str(number).encode() * 1_000 for number in range(300)]


async def test_no_more_is_made_than_its_reader_takes(channel: grpc.aio.Channel, echo: Any) -> None:
    call = channel.unary_stream("/e/Count")(b"100000")
    for _ in range(3):
        await call.read()
    made = -1
    while made != echo.made:
        made = echo.made
        await asyncio.sleep(0.2)
    call.cancel()

    assert made < 50_000
    await until(lambda: echo.cut == ["count"])


async def test_both_sides_may_speak_at_a_time(channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream("/e/Chat")(timeout=60)
    heard = []
    for word in (b"one", b"two"):
        await call.write(word)
        heard.append(await call.read())
    await call.done_writing()
    heard.append(await call.read())

    assert heard == [b"ONE", b"TWO", b"bye"]
    assert (await call.read(), await call.code()) == (grpc.aio.EOF, CODE.OK)


async def test_what_reads_and_what_speaks_wait_each_for_its_own(channel: grpc.aio.Channel, echo: Any) -> None:
    call = channel.stream_stream("/e/Both")(timeout=60)
    await call.write(b"first")
    heard = await call.read()
    for _ in range(3):
        await call.write(b"more")
    await call.done_writing()

    assert len(heard) == 30_000_000
    assert (await call.read(), await call.code()) == (grpc.aio.EOF, CODE.OK)
    assert echo.read == [b"first", *[b"more"] * 3]


async def test_a_stream_may_end_before_it_has_said_a_word(channel: grpc.aio.Channel) -> None:
    assert [message async for message in channel.stream_stream("/e/Chat")(said(), timeout=60)] == [b"bye"]


async def test_a_stream_that_nobody_reads_is_held_back(channel: grpc.aio.Channel, echo: Any) -> None:
    echo.may_read.clear()
    call = channel.stream_stream("/e/Chat")(timeout=60)
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(100):
            await call.write(b"x" * MIB)
            written += 1

    writing = asyncio.ensure_future(write())
    await until(lambda: echo.read and written)
    seen = -1
    while seen != written:
        seen = written
        await asyncio.sleep(0.2)
    assert seen < 20
    assert len(echo.read) == 1

    echo.may_read.set()
    while (await call.read()) is not grpc.aio.EOF:
        if written == 100 and writing.done() and not call.done():
            await call.done_writing()
            break
    await writing
    await until(lambda: len(echo.read) == 100)
    call.cancel()
