"""The reference's worker, which pulls from one engine and is told to call back another, as behind a name of several."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from stepflow.engine import Engine
from stepflow.stores.memory import MemoryBackend
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.server import Server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

WORKER = """
import asyncio, sys
from stepflow_py.worker import StepflowContext, StepflowServer
from stepflow_py.worker.grpc_worker import run_grpc_worker

server = StepflowServer()


@server.component
async def double(n: int) -> int:
    return n * 2


@server.component
async def slow(n: int) -> int:
    await asyncio.sleep(4)
    return n


@server.component
async def sub(n: int, ctx: StepflowContext) -> list:
    flow = {"steps": [{"id": "d", "component": "/w/double", "input": {"$input": "$"}}], "output": {"$step": "d"}}
    done = await ctx.submit_run(flow, inputs=[n, n + 1])
    return [result["output"] for result in done["results"]]


asyncio.run(run_grpc_worker(server, sys.argv[1], "default"))
"""


def make_engine(store: MemoryBackend) -> Engine:
    plugin = QueuePlugin(name="workers", queue="default")
    return Engine(plugins={"workers": plugin}, routes={"/w": [{"plugin": "workers"}]}, store=store)


@pytest.fixture
async def owner() -> AsyncIterator[Any]:
    """An engine and its server, whose workers are told to call the server of another engine."""
    store = MemoryBackend(shared=True)
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(make_engine(store))
        elsewhere = await stack.enter_async_context(Server(other, port=0))
        engine = await stack.enter_async_context(make_engine(store))
        url = f"127.0.0.1:{elsewhere.port}"
        server = await stack.enter_async_context(Server(engine, port=0, url=url))
        yield engine, f"127.0.0.1:{server.port}", url


@pytest.fixture
def work(tmp_path: Path, upstream_python: Path) -> Iterator[Callable[[str, str], None]]:
    started: list[subprocess.Popen[bytes]] = []
    (tmp_path / "worker.py").write_text(WORKER)

    def start(tasks: str, blobs: str) -> None:
        line = [str(upstream_python), "worker.py", tasks]
        environ = {**os.environ, "STEPFLOW_BLOB_URL": blobs}
        quiet = subprocess.DEVNULL
        started.append(subprocess.Popen(line, cwd=tmp_path, env=environ, stdout=quiet, stderr=quiet))

    yield start
    for process in started:
        process.kill()
        process.wait(timeout=60)


async def outputs(engine: Engine, component: str, items: list[int]) -> tuple[list[Any], list[int]]:
    """What came out, and the attempts that it took."""
    step = {"id": "s", "component": component, "input": {"$input": "$"}}
    run = await engine.submit({"steps": [step], "output": {"$step": "s"}}, items, max_concurrency=20)
    async with asyncio.timeout(60):
        results = [result.output async for result in run.results()]
    return results, [event.attempt async for event in run.events() if type(event).__name__ == "StepStarted"]


async def test_its_claims_answers_and_sub_runs_reach_the_engine_that_drives_the_run(
    owner: Any, work: Callable[[str, str], None]
) -> None:
    engine, tasks, elsewhere = owner
    work(tasks, elsewhere)

    doubled = await outputs(engine, "/w/double", list(range(100)))
    slow = await outputs(engine, "/w/slow", [1, 2])
    subs = await outputs(engine, "/w/sub", [1, 2])

    assert doubled == ([2 * n for n in range(100)], [1] * 100)
    assert slow == ([1, 2], [1, 1])
    assert subs == ([[2, 4], [4, 6]], [1, 1])
