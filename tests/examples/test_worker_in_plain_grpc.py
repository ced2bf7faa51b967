"""The worker of `examples/worker_in_plain_grpc` does tasks of a server, with nothing but generated messages."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

pytest.importorskip("grpc_tools")

from stepflow.engine import Engine
from stepflow.records import ErrorCode, Failed, Succeeded
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.server import Server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "worker_in_plain_grpc" / "worker.py"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    protos = Path(str(files("stepflow_grpc"))) / "proto"
    sources = sorted(str(path) for path in (protos / "stepflow" / "v1").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", f"--python_out={tmp_path}"]
    subprocess.run([*command, f"--grpc_python_out={tmp_path}", *sources], check=True, timeout=60)
    for folder in ("stepflow", "stepflow/v1"):
        (tmp_path / folder / "__init__.py").touch()
    return tmp_path


class Processes:
    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, folder: Path, *arguments: str) -> None:
        environ = {**os.environ, "PYTHONPATH": str(folder)}
        self.started.append(subprocess.Popen([sys.executable, str(EXAMPLE), *arguments], env=environ))


@pytest.fixture
def processes() -> Iterator[Processes]:
    found = Processes()
    yield found
    for process in found.started:
        process.kill()
        process.wait(timeout=60)


async def test_it_does_tasks_and_tells_failures(generated: Path, processes: Processes) -> None:
    plugin = QueuePlugin(name="w", queue="cpu")
    async with (
        Engine(plugins={"w": plugin}, routes={"/w": [{"plugin": "w"}]}) as engine,
        Server(engine, port=0) as server,
    ):
        processes.start(generated, f"127.0.0.1:{server.port}", "cpu")
        outcomes = []
        for component in ("/w/double", "/w/fails"):
            step = {"id": "s", "component": component, "input": {"$input": "$"}}
            run = await engine.submit({"steps": [step], "output": {"$step": "s"}}, list(range(20)))
            async with asyncio.timeout(60):
                outcomes.append([result.outcome async for result in run.results()])

    assert outcomes[0] == [Succeeded(2 * n) for n in range(20)]
    failed = outcomes[1][0]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.message) == (ErrorCode.COMPONENT_FAILED, "division by zero")
