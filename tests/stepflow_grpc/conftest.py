"""What the tests of the server share: an open server, and calls to it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import free_ports
import grpc
import grpc.aio
import pytest
from quiet_loop import QuietLoop

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.stores.memory import MemoryBackend
from stepflow_grpc.messages import methods, new
from stepflow_grpc.server import Server


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": QuietLoop}


class Calls:
    """Every method of the protocol on one channel: `await calls("RunsService", "GetRun", run_id=…)`."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def _stub(self, service: str, name: str) -> tuple[Any, Any]:
        method = methods(service)[name]
        make = self._channel.unary_stream if method.streams else self._channel.unary_unary
        serialize = method.request.SerializeToString
        return make(method.path, serialize, method.response.FromString), method.request.DESCRIPTOR.name

    async def __call__(self, service: str, name: str, request: Any = None, **fields: Any) -> Any:
        stub, kind = self._stub(service, name)
        return await stub(new(kind, **fields) if request is None else request, timeout=60)

    async def all(self, service: str, name: str, **fields: Any) -> list[Any]:
        stub, kind = self._stub(service, name)
        return [message async for message in stub(new(kind, **fields), timeout=60)]

    async def refused(self, service: str, name: str, request: Any = None, **fields: Any) -> tuple[str, str]:
        """The status and the words of a call that is not answered."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self(service, name, request, **fields)
        return raised.value.code().name, raised.value.details() or ""


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Calls]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Calls(channel)


@pytest.fixture
def call() -> Any:
    """Calls to any port."""
    return calling


@pytest.fixture
def app() -> Components:
    return Components()


@pytest.fixture
async def engine(app: Components) -> AsyncIterator[Engine]:
    async with Engine(app) as opened:
        yield opened


@pytest.fixture
async def server(engine: Engine) -> AsyncIterator[Server]:
    async with Server(engine, port=0) as opened:
        yield opened


@pytest.fixture
async def calls(server: Server) -> AsyncIterator[Calls]:
    async with calling(server.port) as made:
        yield made


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    return free_ports.free_port()


def _in_memory(request: pytest.FixtureRequest) -> Callable[[], Any]:
    store = MemoryBackend(shared=True)
    return lambda: store


def _on_postgres(request: pytest.FixtureRequest) -> Callable[[], Any]:
    url = request.getfixturevalue("empty_postgres_url")
    return lambda: url


@pytest.fixture(params=[_in_memory, pytest.param(_on_postgres, marks=pytest.mark.slow)])
def shared_store(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Gives each engine the store that all share."""
    found: Callable[[], Any] = request.param(request)
    return found
