"""What the tests of the worker share: an engine whose steps go to a queue, and workers around its server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self, TypeAlias

import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.records import ItemResult, Json
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.server import Server
from stepflow_grpc.worker.heart import Heart
from stepflow_grpc.worker.worker import Worker

ROUTES = {"/w": [{"plugin": "workers"}], "/gpu": [{"plugin": "workers", "queueName": "gpu"}]}


class QuietHeart(Heart):
    """Beats never: for tests that are over before anybody could miss it, and need no process beside each worker."""

    is_catching_up = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    def begin(self, begun: Sequence[tuple[str, int]]) -> None:
        pass


Working: TypeAlias = Callable[..., AbstractAsyncContextManager[Worker]]


def queueing_engine(**options: Any) -> Engine:
    """Steps at `/w` go to the queue `python`, those at `/gpu` to `gpu`."""
    return Engine(plugins={"workers": QueuePlugin(name="workers", queue="python")}, **{"routes": ROUTES, **options})


@pytest.fixture
def make_engine() -> Callable[..., Engine]:
    return queueing_engine


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with queueing_engine() as opened:
        yield opened


@pytest.fixture(params=["fast path", "v1"])
def fast_path(request: pytest.FixtureRequest) -> bool:
    """Both ways that a worker and our server can talk."""
    return bool(request.param == "fast path")


@pytest.fixture
def quiet_heart() -> type[Heart]:
    return QuietHeart


@pytest.fixture
def working(server: Server) -> Working:
    """A worker that is ready: `async with working(app, queue="gpu") as worker`."""

    @asynccontextmanager
    async def open(app: Components, **options: Any) -> AsyncIterator[Worker]:
        options = {"url": f"127.0.0.1:{server.port}", "make_heart": QuietHeart, **options}
        async with Worker(app, **options) as worker:
            async with asyncio.timeout(60):
                await worker.ready()
            yield worker

    return open


def flow(*components: str) -> dict[str, Json]:
    """Steps one after the other, each with the output of the one before."""
    steps: list[Json] = []
    source: Json = {"$input": "$"}
    for number, component in enumerate(components):
        steps.append({"id": f"s{number}", "component": component, "input": source})
        source = {"$step": f"s{number}"}
    return {"steps": steps, "output": source}


@pytest.fixture
def line() -> Callable[..., dict[str, Json]]:
    return flow


@pytest.fixture
def results(engine: Engine) -> Callable[..., Any]:
    """What becomes of inputs: `await results(["/w/double"], [1, 2])`."""

    async def run(components: list[str], inputs: list[Any]) -> list[ItemResult]:
        async with asyncio.timeout(60):
            submitted = await engine.submit(flow(*components), inputs)
            return [result async for result in submitted.results()]

    return run


@pytest.fixture
def outputs(results: Callable[..., Any]) -> Callable[..., Any]:
    async def run(components: list[str], inputs: list[Any]) -> list[Json]:
        found = await results(components, inputs)
        assert [result.error for result in found] == [None] * len(inputs)
        return [result.output for result in found]

    return run
