"""Where a server listens."""

import asyncio
import socket
from typing import Any

import pytest

from stepflow.clock import SystemClock
from stepflow_grpc.doors.front import Front
from stepflow_grpc.doors.http import HttpSide
from stepflow_grpc.doors.limits import Limits

pytestmark = pytest.mark.anyio


def front() -> Front:
    return Front(SystemClock(), Limits(), http=HttpSide({}, SystemClock()))


async def answers(address: str, port: int) -> bool:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    async with asyncio.timeout(60):
        said = await reader.read()
    writer.close()
    return said.startswith(b"HTTP/1.1 404")


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    addresses = ["127.0.0.1", "127.0.0.2"]

    async def found(self: Any, host: Any, port: Any, **more: Any) -> list[Any]:
        names = addresses if host == "both" else [host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port)) for name in names]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", found)
    return addresses


async def test_a_name_with_two_addresses_has_one_port(two_addresses: list[str]) -> None:
    door = front()
    port = await door.open("both", 0)
    try:
        assert [await answers(address, port) for address in two_addresses] == [True, True]
    finally:
        await door.close()


async def test_a_port_that_one_of_its_addresses_has_not_free_can_not_be_had(two_addresses: list[str]) -> None:
    taken = socket.create_server(("127.0.0.2", 0))
    port = taken.getsockname()[1]
    door = front()
    with taken, pytest.raises(OSError, match="in use"):
        await door.open("both", port)

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_everybody_who_is_there_is_counted(two_addresses: list[str]) -> None:
    door = front()
    port = await door.open("127.0.0.1", 0)
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(60):
            while not door.connections:
                await asyncio.sleep(0.005)
        writer.close()
        async with asyncio.timeout(60):
            while door.connections:
                await asyncio.sleep(0.005)
    finally:
        await door.close()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_request_by_http_that_is_under_way_is_answered_when_the_server_closes() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Any) -> tuple[int, Any]:
        begun.set()
        await go_on.wait()
        return 200, "done"

    door = Front(SystemClock(), Limits(), http=HttpSide({"GET /slow": slow}, SystemClock()))
    port = await door.open("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
    await begun.wait()
    closing = asyncio.ensure_future(door.close(60.0))
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(60):
        said = await reader.read()
        await closing  # although the caller kept its connection
    writer.close()

    assert said.endswith(b'"done"')
