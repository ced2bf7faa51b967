"""Nothing that comes in through the port grows without a bound, and nobody holds it by saying nothing."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest

from stepflow.engine import Engine
from stepflow_grpc.details import read_details
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.messages import methods, new
from stepflow_grpc.refusals import CallError
from stepflow_grpc.server import Server
from stepflow_grpc.services.calls import Gate

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS_TAKEN = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"


@asynccontextmanager
async def limited(engine: Engine, call: Any, **limits: Any) -> AsyncIterator[tuple[Server, Any]]:
    async with Server(engine, port=0, limits=Limits(**limits)) as server, call(server.port) as calls:
        yield server, calls


async def said_until_closed(port: int, *parts: bytes) -> bytes:
    """What a connection is told that says this and then nothing, until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        for part in parts:
            writer.write(part)
        with anyio.fail_after(60):
            while more := await reader.read(65_536):
                said += more
    except ConnectionError:
        pass
    finally:
        writer.close()
    return said


async def still_answers(calls: Any) -> bool:
    """Whether a call is answered, some time: with limits of less than a second a connection may break at any time."""
    with anyio.fail_after(60):
        while True:
            try:
                return bool((await calls("HealthService", "HealthCheck")).status == "healthy")
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await anyio.sleep(0.05)


async def test_a_message_that_is_too_long_is_refused(engine: Engine, call: Any) -> None:
    async with limited(engine, call, message_bytes=MIB) as (_, calls):
        fits = await calls("BlobService", "PutBlob", raw_data=b"x" * (MIB - 1_000), blob_type="binary")
        code, text = await calls.refused("BlobService", "PutBlob", raw_data=b"x" * (MIB + 1))

    assert fits.blob_id
    assert (code, "larger than max" in text) == ("RESOURCE_EXHAUSTED", True)


async def test_a_message_of_more_than_4_mib_is_taken_by_default(calls: Any) -> None:
    assert (await calls("BlobService", "PutBlob", raw_data=b"x" * 5 * MIB, blob_type="binary")).blob_id


async def test_large_answers_come_whole_also_two_at_a_time(server: Server) -> None:
    put, get = (methods("BlobService")[name] for name in ("PutBlob", "GetBlob"))
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options) as channel:
        keep, give = (
            channel.unary_unary(each.path, each.request.SerializeToString, each.response.FromString)
            for each in (put, get)
        )
        id = (await keep(new("PutBlobRequest", raw_data=b"x" * 30 * MIB, blob_type="binary"))).blob_id
        got = await asyncio.gather(*(give(new("GetBlobRequest", blob_id=id)) for _ in range(2)))

    assert [len(each.raw_data) for each in got] == [30 * MIB] * 2


async def test_large_requests_beyond_the_limit_are_asked_to_come_again(engine: Engine, call: Any) -> None:
    async with limited(engine, call, in_flight_bytes=MIB) as (server, calls):
        server._gate.enter(MIB - 1)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await calls("BlobService", "PutBlob", raw_data=b"x" * 100_000, blob_type="binary")
        small = await calls("BlobService", "PutBlob", raw_data=b"x", blob_type="binary")
        of_worker = await calls.refused(
            "OrchestratorService", "CompleteTask", task_id="t", error={"message": "x" * 100_000}
        )
        server._gate.leave(MIB - 1)
        again = await calls("BlobService", "PutBlob", raw_data=b"x" * 100_000, blob_type="binary")

    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert read_details(raised.value.trailing_metadata())[0].retry_delay.seconds == 1
    assert ("retry-after", "1") in [tuple(each) for each in raised.value.trailing_metadata() or ()]
    assert small.blob_id
    assert of_worker[0] == "NOT_FOUND"  # it came in
    assert again.blob_id
    assert server._gate.held_bytes == 0


def test_one_large_request_alone_comes_in_however_large() -> None:
    gate = Gate(10)

    gate.enter(100)
    with pytest.raises(CallError, match="try again"):
        gate.enter(1)
    gate.leave(100)

    assert gate.held_bytes == 0


async def test_more_connections_than_there_may_be_are_closed_and_said_once(
    engine: Engine, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with limited(engine, call, connections=2) as (server, calls):
        await calls("HealthService", "HealthCheck")
        _, kept = await asyncio.open_connection("127.0.0.1", server.port)
        kept.write(b"GET /health HTTP/1.1\r\n")

        with caplog.at_level(logging.WARNING, "stepflow.server"):
            turned_away = [await said_until_closed(server.port) for _ in range(3)]
        still = await calls("HealthService", "HealthCheck")
        kept.close()

    assert turned_away == [b""] * 3
    assert [record.message for record in caplog.records] == [
        "2 connections are open, which is the limit: more are closed"
    ]
    assert still.status == "healthy"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ((), b""),
        ((b"P",), b""),
        ((PREFACE[:-1],), b""),
        ((b"GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ",), b"HTTP/1.1 408"),
        ((b"POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc",), b"HTTP/1.1 408"),
    ],
    ids=["nothing", "half-preface", "almost-preface", "half-head", "half-body"],
)
async def test_a_connection_that_stops_speaking_is_closed(
    engine: Engine, call: Any, said: tuple[bytes, ...], answer: bytes
) -> None:
    async with limited(engine, call, greeting_s=0.2) as (server, calls):
        assert (await said_until_closed(server.port, *said))[:12] == answer
        assert await still_answers(calls)
        assert server._doors._fronts[0].connections == 1


async def test_a_half_open_http_2_connection_is_closed(engine: Engine, call: Any) -> None:
    """It says its preface and not its settings, or both and then nothing: no answer to a ping, no call."""
    async with limited(engine, call, greeting_s=0.3) as (server, calls):
        silent = await said_until_closed(server.port, PREFACE)

        assert await still_answers(calls)

    async with limited(engine, call, keepalive_s=0.3, keepalive_answer_s=0.3) as (server, calls):
        polite = await said_until_closed(server.port, PREFACE, SETTINGS, SETTINGS_TAKEN)

        assert await still_answers(calls)

    assert b"\x00\x00\x08\x06\x00" in polite  # it was asked by a ping
    assert len(silent) < 200


@pytest.mark.slow
async def test_a_caller_that_reads_nothing_is_left(engine: Engine, call: Any) -> None:
    """Its connection is closed, whatever waits to be said to it: far more than the system takes off the server."""
    async with limited(engine, call, greeting_s=0.3) as (server, calls):
        front = server._doors._fronts[0]
        await calls("HealthService", "HealthCheck")
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stuck.connect(("127.0.0.1", server.port))
        stuck.setblocking(False)
        with anyio.fail_after(60), stuck:
            while front.connections < 2:
                await anyio.sleep(0)
            while front.connections > 1:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    stuck.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * 1_000)
                await anyio.sleep(0.01)

        assert (await calls("HealthService", "HealthCheck")).status == "healthy"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * 70_000, b"431"),
        (b"POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n" + b"x" * 2_000_000, b"413"),
        (b"POST /health HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", b"400"),
    ],
    ids=["head", "body", "chunk", "two-hosts"],
)
async def test_a_request_by_http_has_limits(server: Server, calls: Any, request_bytes: bytes, status: bytes) -> None:
    said = await said_until_closed(server.port, request_bytes)

    assert said == b"" or said.split()[1] == status
    assert (await calls("HealthService", "HealthCheck")).status == "healthy"


async def test_a_connection_without_calls_is_closed_and_opened_again_unseen(engine: Engine, call: Any) -> None:
    async with limited(engine, call, idle_s=0.2) as (server, calls):
        await calls("HealthService", "HealthCheck")
        front = server._doors._fronts[0]
        with anyio.fail_after(60):
            while front.connections:
                await anyio.sleep(0.05)

        assert await still_answers(calls)
