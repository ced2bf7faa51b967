"""`stepflow serve` as a process: it says its port, serves, and stops when it is told to."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stepflow_grpc.wire import from_value, to_struct, to_value

pytestmark = pytest.mark.anyio

COMPONENTS = """
import os, time
from pathlib import Path
import stepflow

app = stepflow.Components()


@app.component("/double")
def double(n: int) -> int:
    return n * 2


@app.component("/gate")
def gate(n: int) -> int:
    Path("begun").touch()
    while not Path("open").exists():
        time.sleep(0.01)
    return n
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "components.py").write_text(COMPONENTS)
    monkeypatch.chdir(tmp_path)
    for name in ("STEPFLOW_STORE", "STEPFLOW_PORT", "STEPFLOW_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class Served:
    """A server's process, and the port that it said."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.port = port

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, stdin: str | None = None, program: str = "serve") -> Served:
        code = "from stepflow.cli.main import main; main()"
        if program == "server":
            code, arguments = "from stepflow_grpc.serving import server; server()", arguments
        else:
            arguments = ("serve", *arguments)
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        processes.append(process)
        if stdin is not None:
            process.stdin.write(stdin)  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]
        process.stdin = None
        said = process.stdout.readline()  # type: ignore[union-attr]
        assert said, process.stderr.read()  # type: ignore[union-attr]
        return Served(process, json.loads(said)["port"])

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


async def doubled(calls: Any, component: str = "/double") -> Any:
    flow = {"steps": [{"id": "d", "component": component, "input": {"$input": "$"}}], "output": {"$step": "d"}}
    flow_id = (await calls("FlowsService", "StoreFlow", flow=to_struct(flow))).flow_id
    response = await calls("RunsService", "CreateRun", flow_id=flow_id, input=[to_value(21)], wait=True)
    return from_value(response.results[0].output)


async def test_it_serves_the_components_of_an_app_and_ends_when_told(serve: Serve, call: Any) -> None:
    served = serve("--app", "components:app", "--port", "0")
    async with call(served.port) as calls:
        answer = await doubled(calls)
    code, err = served.stop()

    assert answer == 42
    assert code == 0
    assert f"serving on 127.0.0.1:{served.port}" in err


async def test_a_configuration_may_come_on_stdin_with_nulls(serve: Serve, call: Any) -> None:
    config = {
        "plugins": {"mine": {"type": "python", "app": "components:app"}},
        "routes": {"/mine": [{"plugin": "mine"}]},
        "storageConfig": None,
        "workingDirectory": None,
    }
    served = serve("--port", "0", "--log-level", "info", "--config-stdin", stdin=json.dumps(config), program="server")
    async with call(served.port) as calls:
        answer = await doubled(calls, "/mine/double")

    assert answer == 42
    assert served.stop(signal.SIGINT)[0] == 0


async def test_a_killed_server_goes_on_with_its_runs(serve: Serve, call: Any, folder: Path) -> None:
    flow = {"steps": [{"id": "g", "component": "/gate", "input": {"$input": "$"}}], "output": {"$step": "g"}}
    line = ("--app", "components:app", "--port", "0", "--store", "runs.db")
    served = serve(*line)
    async with call(served.port) as calls:
        flow_id = (await calls("FlowsService", "StoreFlow", flow=to_struct(flow))).flow_id
        run_id = (await calls("RunsService", "CreateRun", flow_id=flow_id, input=[to_value(7)])).summary.run_id
        while not (folder / "begun").exists():
            await calls("HealthService", "HealthCheck")
    served.stop(signal.SIGKILL)
    (folder / "open").touch()

    again = serve(*line)
    async with call(again.port) as calls:
        await calls("RunsService", "GetRun", run_id=run_id, wait=True)
        (result,) = (await calls("RunsService", "GetRunItems", run_id=run_id)).results

    assert from_value(result.output) == 7


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        (("--config", "a.yml", "--config-stdin"), "{}", 2, "exclude each other"),
        (("--config-stdin",), "{", 1, "is no JSON"),
        (("--config-stdin",), "[]", 1, "is no JSON object"),
        (("--config", "missing.yml"), "", 1, "missing.yml"),
        (("--port", "70000"), "", 2, "70000"),
    ],
)
def test_what_cannot_be_served_is_said(arguments: tuple[str, ...], stdin: str, code: int, words: str) -> None:
    command = [sys.executable, "-m", "stepflow.cli.main", "serve", *arguments]

    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=dict(os.environ))

    assert done.returncode == code
    assert words in done.stderr
    assert done.stdout == ""
