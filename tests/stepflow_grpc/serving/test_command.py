"""`stepflow serve` as a process: it says its port, serves, and stops when it is told to."""

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from free_ports import free_port
from polled import BOUND_S
from serve_process import CLEARED, Serving, is_alive

from stepflow.cli.main import main
from stepflow.components import Components
from stepflow.engine import Engine
from stepflow_grpc import Pool, Server
from stepflow_grpc import serve as serve_engine
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.pools import board
from stepflow_grpc.pools.board import Service
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
    for name in CLEARED:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


Serve = Callable[..., Serving]


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    served: list[Serving] = []

    def start(*arguments: str, **options: Any) -> Serving:
        served.append(Serving(folder, *arguments, **options))
        return served[-1]

    yield start
    for each in served:
        each.close()


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
    assert err.count("runs are kept in memory and end with this server: --store runs.db keeps them") == 1


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
    assert "runs are kept in memory" not in again.stop()[1]


@pytest.mark.slow
async def test_everything_that_the_reference_is_told_by_its_environment_is_heeded(serve: Serve, folder: Path) -> None:
    port = free_port()
    config = {"plugins": {"w": {"type": "grpc", "queueName": "q"}}, "routes": {"/w": [{"plugin": "w"}]}}
    (folder / "named.json").write_text(json.dumps(config))
    names = {"PORT": str(port), "CONFIG": "named.json", "ORCHESTRATOR_ID": "o-1", "LOG_LEVEL": "INFO"}
    telemetry = {"TRACE_ENABLED": "true", "METRICS_ENABLED": "true", "OTLP_ENDPOINT": "http://localhost:4317"}

    served = serve(
        program="server",
        env={f"STEPFLOW_{name}": value for name, value in {**names, **telemetry, "LOG_DESTINATION": "stdout"}.items()},
    )

    assert served.port == port
    served.until_said(r"^q      /w      0        0      nobody serves it; type: stepflow worker MODULE:APP --queue q ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--log-destination", "stdout", "--log-level", "trace", "--other-log-level", "debug"),
        ("--log-destination=stdout", "--log-format=json", "--log-level=DEBUG"),
        (
            "--log-destination",
            "otlp",
            "--otlp-endpoint",
            "http://localhost:4317",
            "--trace-enabled",
            "--metrics-enabled",
        ),
        ("--log-file", "server.log", "--log-destination", "file", "-c", "c.json", "--orchestrator-id", "o-1"),
    ],
)
def test_the_flags_of_the_reference_are_taken_and_the_port_has_a_line_of_its_own(
    serve: Serve, folder: Path, flags: tuple[str, ...]
) -> None:
    (folder / "c.json").write_text('{"plugins": {}, "routes": {}}')

    served = serve("-p", "0", *flags, program="server")

    with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/api/v1/health", timeout=60) as answer:
        assert json.load(answer)["status"] == "healthy"
    assert served.said[-1] == f'{{"port":{served.port}}}\n'
    assert served.stop()[0] == 0


@pytest.mark.slow
async def test_secrets_that_cannot_be_sealed_are_warned_of_once_and_refused_where_that_is_asked(
    serve: Serve, call: Any
) -> None:
    secret = {"type": "string", "is_secret": True}
    flow = {"schemas": {"properties": {"variables": {"properties": {"key": secret}}}}, "steps": [], "output": 1}
    said = []
    for flags in ((), ("--secrets", "strict")):
        served = serve("--port", "0", "--store", f"{len(flags)}.db", *flags)
        async with call(served.port) as calls:
            flow_id = (await calls("FlowsService", "StoreFlow", flow=to_struct(flow))).flow_id
            given = {"flow_id": flow_id, "input": [to_value({})], "variables": {"key": to_value("hunter2")}}
            if flags:
                said.append(await calls.refused("RunsService", "CreateRun", **given))
            else:
                for _ in range(2):
                    await calls("RunsService", "CreateRun", **given)
        said.append(served.stop()[1])

    assert said[0].count("SECRETS ARE STORED IN CLEAR from now on") == 1
    assert said[1][0] == "INVALID_ARGUMENT"
    assert "hold secrets" in said[1][1]
    assert not any("hunter2" in str(each) for each in said)


GRPC = {"type": "grpc", "queueName": "q"}


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        (("--config", "a.yml", "--config-stdin"), "{}", 2, "exclude each other"),
        (("--config-stdin",), "{", 1, "is no JSON"),
        (("--config-stdin",), "[]", 1, "is no JSON object"),
        (("--config", "missing.yml"), "", 1, "missing.yml"),
        (("--port", "70000"), "", 2, "70000"),
        (("--pool", "cpu"), "", 2, "write QUEUE=MODULE:REGISTRY[:REPLICAS]"),
        (("--pool", "cpu=m:app:0"), "", 2, "replicas has to be at least 1"),
        (("--pool", " =m:app"), "", 2, "a pool needs the name of its queue"),
        (("--host", ""), "", 2, "'--host': it is empty"),
        (("--store", " "), "", 2, "'--store': it is empty"),
        (("--orchestrator-id", ""), "", 2, "'--orchestrator-id': it is empty"),
        (("--tls-cert", __file__), "", 2, "give --tls-cert FILE and --tls-key FILE"),
        (("--log-destination", "file"), "", 2, "needs --log-file"),
        ({"p": {"type": "grcp"}}, "", 1, 'there is no plugin type "grcp"'),
        ({"p": {"type": "grpc"}}, "", 1, "queueName is missing"),
        ({"p": {**GRPC, "queueTimeoutSecs": 0}}, "", 1, "queueTimeoutSecs has to be at least 1"),
        ({"p": {**GRPC, "command": "x", "replicas": 0}}, "", 1, "replicas has to be at least 1"),
    ],
)
def test_what_cannot_be_served_is_said(
    arguments: tuple[str, ...] | dict[str, Any],
    stdin: str,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if isinstance(arguments, dict):
        arguments, stdin = ("--config-stdin",), json.dumps({"plugins": arguments, "routes": {}})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))

    with pytest.raises(SystemExit) as left:
        main(["serve", *arguments])

    assert left.value.code == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


@pytest.mark.slow
def test_a_plugin_that_is_not_installed_is_said_at_the_start(serve: Serve) -> None:
    config = {"plugins": {"tools": {"type": "nats", "url": "u", "consumer": "c"}}, "routes": {}}

    served = serve("--port", "0", "--config-stdin", stdin=json.dumps(config))

    served.until_said("^plugin 'tools' can't be used, .*: no plugin of type nats is installed$")


def test_a_port_that_is_taken_is_named_and_no_worker_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "stepflow.cli.main", "serve", "--port", port, "--pool", "q=components:app"]

        done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 can't be had" in done.stderr
    assert "address already in use; take another with --port" in done.stderr
    assert "[q/1]" not in done.stderr
    assert done.stdout == ""


async def test_a_host_application_serves_its_engine_with_pools_of_its_own(folder: Path) -> None:
    said: list[str] = []
    app = Components()
    pools = [Pool("q", command=("sh", "-c", "echo $STEPFLOW_QUEUE_NAME at $PWD; exec sleep 100"), directory=folder)]

    async with (
        asyncio.timeout(BOUND_S),
        Engine(app) as engine,
        serve_engine(engine, port=0, pools=pools, say=said.append) as server,
    ):
        assert isinstance(server, Server)
        (row,) = server.queues()
        while not said:
            await engine.run({"steps": [], "output": 1}, {})

    assert (row.queue, row.expected, row.workers) == ("q", 1, 0)
    assert said[0] == f"[q/1] q at {folder}"


async def test_workers_that_never_connect_are_seen_and_keep_nothing_from_being_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board, "CONNECTS_WITHIN_S", 0.2)
    said: list[str] = []
    plugin = QueuePlugin(name="w", queue="q", pool=Pool("q", command=("sleep", "100")))
    flow = {"steps": [{"id": "s", "component": "/w/x", "input": 1}], "output": {"$step": "s"}}

    async with (
        asyncio.timeout(BOUND_S),
        Engine(plugins={"w": plugin}, routes={"/w": [{"plugin": "w"}]}) as engine,
        Server(engine, port=0, say=said.append) as server,
    ):
        run = await engine.submit(flow, [1])
        trouble = "its pool has not connected within 0.2 s (1 of 1 workers run)"
        while not said or trouble not in str(await engine.explain(run.id)):
            assert await engine.run({"steps": [], "output": 1}, {}) == 1
        (row,) = server.queues()

    assert said == [f"queue q: {trouble}"]
    assert row.service is Service.SILENT


async def test_a_host_application_that_is_cancelled_leaves_no_worker_and_no_port(folder: Path) -> None:
    said: list[str] = []
    pools = [Pool("q", command=("sh", "-c", "echo pid $$; exec sleep 100"))]

    async with asyncio.timeout(BOUND_S), Engine(Components()) as engine:
        with anyio.CancelScope() as scope:
            async with serve_engine(engine, port=0, pools=pools, say=said.append) as server:
                while not said:
                    await engine.run({"steps": [], "output": 1}, {})
                scope.cancel()
                await anyio.sleep_forever()

    assert not is_alive(int(said[0].rpartition(" ")[2]))
    with socket.create_server(("127.0.0.1", server.port)):
        assert not server.is_ready()
