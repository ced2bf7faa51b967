"""Workers and servers that talk over loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import stepflow
from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.records import Json
from stepflow_grpc.server import Server
from stepflow_grpc.worker.worker import Worker

pytestmark = pytest.mark.anyio


def flow(*components: str) -> dict[str, Json]:
    """Steps one after the other, each with the output of the one before."""
    steps: list[Json] = []
    source: Json = {"$input": "$"}
    for number, component in enumerate(components):
        steps.append({"id": f"s{number}", "component": component, "input": source})
        source = {"$step": f"s{number}"}
    return {"steps": steps, "output": source}


@asynccontextmanager
async def working(app: Components, server: Server, **options: Any) -> AsyncIterator[Worker]:
    async with Worker(app, url=f"127.0.0.1:{server.port}", **options) as worker:
        async with asyncio.timeout(20):
            await worker.ready()
        yield worker


async def results(engine: Engine, flow: Json, inputs: list[Any]) -> list[stepflow.ItemResult]:
    async with asyncio.timeout(30):
        run = await engine.submit(flow, inputs)
        return [result async for result in run.results()]


async def outputs(engine: Engine, flow: Json, inputs: list[Any]) -> list[Json]:
    return [result.output for result in await results(engine, flow, inputs)]


async def test_a_batch_goes_through_a_worker_in_order(engine: Engine, server: Server) -> None:
    app = Components()
    app.component("/double")(lambda n: n * 2)

    @app.component("/next")
    async def following(n: int) -> int:
        return n + 1

    async with working(app, server):
        found = await outputs(engine, flow("/w/double", "/w/next"), list(range(30)))

    assert found == [2 * n + 1 for n in range(30)]
