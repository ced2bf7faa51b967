"""The reference's worker keeps its slot while it waits for a run of its own: when that can't begin, it is said why."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepflow.engine import Engine
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
async def sub(n: int, ctx: StepflowContext) -> list:
    flow = {"steps": [{"id": "d", "component": "/w/double", "input": {"$input": "$"}}], "output": {"$step": "d"}}
    return (await ctx.submit_run(flow, inputs=[n]))["results"]


asyncio.run(run_grpc_worker(server, sys.argv[1], "default", max_concurrent=1))
"""


class Workers:
    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.python = python
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, address: str) -> None:
        environ = {**os.environ, "STEPFLOW_BLOB_URL": address}
        quiet = subprocess.DEVNULL
        line = [str(self.python), "worker.py", address]
        self.processes.append(subprocess.Popen(line, cwd=self.folder, env=environ, stdout=quiet, stderr=quiet))


@pytest.fixture
def workers(tmp_path: Path, upstream_python: Path) -> Iterator[Workers]:
    (tmp_path / "worker.py").write_text(WORKER)
    found = Workers(tmp_path, upstream_python)
    yield found
    for process in found.processes:
        process.kill()
        process.wait(timeout=60)


async def test_the_deadlock_of_its_only_slot_is_named_and_another_worker_resolves_it(workers: Workers) -> None:
    plugin = QueuePlugin(name="w", queue="default")
    step = {"id": "s", "component": "/w/sub", "input": {"$input": "$"}}
    async with (
        Engine(plugins={"w": plugin}, routes={"/w": [{"plugin": "w"}]}) as engine,
        Server(engine, port=0) as server,
    ):
        address = f"127.0.0.1:{server.port}"
        workers.start(address)
        run = await engine.submit({"steps": [step], "output": {"$step": "s"}}, [21])
        async with asyncio.timeout(60):
            while "deadlock" not in str(explained := await engine.explain(run.id)):
                await asyncio.sleep(0.2)
            workers.start(address)
            (result,) = [result async for result in run.results()]
        after = str(await engine.explain(run.id))

    assert "the only slot of queue 'default' is held" in str(explained)
    assert "start another worker for the queue" in str(explained)
    assert result.output[0]["output"] == 42
    assert "deadlock" not in after
