"""What the client's tests share: a server with components, and a client of it, on both of its ways."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stepflow.components import Components
from stepflow_grpc.client.client import Client
from stepflow_grpc.client.records import Health
from stepflow_grpc.server import Server

DOUBLE = {
    "name": "double",
    "schemas": {"properties": {"variables": {"properties": {"times": {"type": "integer", "default": 2}}}}},
    "steps": [{"id": "d", "component": "/times", "input": {"n": {"$input": "n"}, "times": {"$variable": "times"}}}],
    "output": {"$step": "d"},
}
SAME = {
    "name": "same",
    "steps": [{"id": "s", "component": "/same", "input": {"$input": "$"}}],
    "output": {"$step": "s"},
}
GATED = {
    "name": "gated",
    "steps": [{"id": "g", "component": "/gate", "input": {"$input": "$"}}],
    "output": {"$step": "g"},
}


class Gate:
    """Where items wait until they are let through, in the order that a test wants."""

    def __init__(self) -> None:
        self._opened: dict[int, asyncio.Event] = {}

    def __getitem__(self, number: int) -> asyncio.Event:
        return self._opened.setdefault(number, asyncio.Event())

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self[number].set()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def app(gate: Gate) -> Components:
    registry = Components()

    @registry.component("/times")
    async def times(input: dict[str, Any]) -> int:
        """So many times a number."""
        if input["n"] < 0:
            raise ValueError("it is negative")
        return int(input["n"] * input["times"])

    @registry.component("/same")
    async def same(input: Any) -> Any:
        return input

    @registry.component("/gate")
    async def wait(input: int) -> int:
        if input >= 0:
            await gate[input].wait()
        return input

    return registry


@asynccontextmanager
async def connected(port: int, kind: str, **options: Any) -> AsyncIterator[Client]:
    async with Client(f"127.0.0.1:{port}", **options) as client:
        if kind == "reference":
            client._health = Health(status="healthy", version="0")  # what it is told by a server that has less
        yield client


@pytest.fixture(params=["ours", "reference"])
async def client(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """A client that meets our server, and one that uses only what every server of the protocol has."""
    async with connected(server.port, request.param) as made:
        yield made


@pytest.fixture
async def ours(server: Server) -> AsyncIterator[Client]:
    async with connected(server.port, "ours") as made:
        yield made


class Proxy:
    """Stands between a client and a server, and breaks their connections when it is told to."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no more connections, and break those that are there."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.cut()

    def cut(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        self._writers += [writer, inner_writer]
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    made = Proxy(server.port)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def flows() -> dict[str, Any]:
    return {"double": DOUBLE, "same": SAME, "gated": GATED}


@pytest.fixture
def connect() -> Any:
    """A client of a port: `async with connect(port, kind, **options)`."""
    return connected
