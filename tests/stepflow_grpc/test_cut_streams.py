"""Streams that break while other calls pass, and connections that are gone without a word."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cutting_proxy import CuttingProxy

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.execution.events import StepRetried, StepStarted
from stepflow_grpc.messages import methods, new
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.server import Server
from stepflow_grpc.worker.worker import Worker

pytestmark = pytest.mark.anyio

FLOW = {"steps": [{"id": "s", "component": "/w/double", "input": {"$input": "$"}}], "output": {"$step": "s"}}
BOTH = pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "v1"])


class App:
    """A component that waits until it is let go, and counts its calls."""

    def __init__(self) -> None:
        self.components = Components()
        self.calls = 0
        self.begun = asyncio.Event()
        self.free = asyncio.Event()
        self.components.component("/double")(self._double)

    async def _double(self, n: int) -> int:
        self.calls += 1
        self.begun.set()
        await self.free.wait()
        return n * 2


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    plugins = {"workers": QueuePlugin(name="workers", queue="w")}
    async with Engine(plugins=plugins, routes={"/w/{*component}": [{"plugin": "workers"}]}) as opened:
        yield opened


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy(server.port) as opened:
        yield opened


async def output_and_events(run: Any, engine: Engine) -> tuple[Any, list[Any]]:
    async with asyncio.timeout(60):
        (result,) = [result async for result in run.results()]
    return result.outcome.output, [event async for event in engine.events(run.id)]


def starts(events: list[Any]) -> int:
    return sum(isinstance(event, StepStarted) for event in events)


@BOTH
async def test_a_task_at_work_stays_with_its_worker_when_the_stream_is_cut(
    engine: Engine, proxy: CuttingProxy, fast_path: bool
) -> None:
    """Calls about tasks go to the server itself: only the stream passes through the proxy."""
    app = App()
    async with (
        asyncio.timeout(60),
        Worker(app.components, url=f"127.0.0.1:{proxy.port}", queue="w", fast_path=fast_path) as worker,
    ):
        await worker.ready()
        run = await engine.submit(FLOW, [21])
        await app.begun.wait()
        before = proxy.passed
        await proxy.cut()
        while proxy.passed == before or not worker.is_ready:
            await asyncio.sleep(0.01)
        app.free.set()
        output, events = await output_and_events(run, engine)

    assert output == 42
    assert (app.calls, starts(events)) == (1, 1)


async def test_tasks_that_nobody_claimed_are_given_to_another_as_soon_as_their_stream_is_cut(
    engine: Engine, server: Server, proxy: CuttingProxy, call: Any
) -> None:
    """Without a time limit of the queue, nothing else would ever bring them back."""
    app = App()
    app.free.set()
    pull = methods("TasksService")["PullTasks"]

    async with asyncio.timeout(60), call(proxy.port) as cut, call(server.port) as unary:
        stub = cut._channel.unary_stream(pull.path, pull.request.SerializeToString, pull.response.FromString)
        stream = stub(new("PullTasksRequest", queue_name="w", worker_id="sleepy"))
        await stream.read()  # the question what it has
        run = await engine.submit(FLOW, [21])
        assert (await stream.read()).task_id
        await proxy.cut()
        assert (await unary("HealthService", "HealthCheck")).status == "healthy"
        stream.cancel()
        async with Worker(app.components, url=f"127.0.0.1:{server.port}", queue="w"):
            output, events = await output_and_events(run, engine)

    assert output == 42
    assert (app.calls, starts(events)) == (1, 1)
    assert not any(isinstance(event, StepRetried) for event in events)


@pytest.mark.slow
@BOTH
async def test_an_answer_arrives_though_all_connections_of_its_worker_died_silently(
    engine: Engine, fast_path: bool
) -> None:
    """Nothing said on them arrives, and none is closed: both sides find out by asking whether the other lives."""
    app = App()

    async with CuttingProxy(0) as proxy, asyncio.timeout(90):
        url = f"127.0.0.1:{proxy.port}"
        async with Server(engine, port=0, url=url) as server:
            proxy.target = server.port
            async with Worker(app.components, url=url, queue="w", fast_path=fast_path) as worker:
                await worker.ready()
                run = await engine.submit(FLOW, [21])
                await app.begun.wait()
                proxy.hold()
                app.free.set()
                output, events = await output_and_events(run, engine)
                await proxy.cut()

    assert output == 42
    assert (app.calls, starts(events)) == (1, 1)
