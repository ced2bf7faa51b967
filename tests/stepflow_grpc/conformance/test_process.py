"""Checklist 1–8, 85 and 86: one port for all, the server as a process, and workers that it starts."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from stepflow.records import ComponentInfo
from stepflow_grpc.messages import MESSAGES, methods
from stepflow_grpc.ports import GRACE_S
from stepflow_grpc.server import DRAIN_S

pytestmark = pytest.mark.anyio

CONFIG = """
plugins:
  builtin: {type: builtin}
  workers: {type: grpc, queueName: default}
routes:
  /w: [{plugin: workers}]
"""
WORKER = """
import os, sys
from pathlib import Path

import grpc
from stepflow_grpc.messages import methods, new
from stepflow_grpc.wire import to_value

NAMES = ("STEPFLOW_TRANSPORT", "STEPFLOW_TASKS_URL", "STEPFLOW_QUEUE_NAME", "STEPFLOW_BLOB_URL", "MINE", "HOME")


def stub(channel, service, name):
    method = methods(service)[name]
    make = channel.unary_stream if method.streams else channel.unary_unary
    return make(method.path, method.request.SerializeToString, method.response.FromString)


print("the worker says this", file=sys.stderr, flush=True)
channel = grpc.insecure_channel(os.environ["STEPFLOW_TASKS_URL"])
complete = stub(channel, "OrchestratorService", "CompleteTask")
pulled = stub(channel, "TasksService", "PullTasks")
for task in pulled(new("PullTasksRequest", queue_name=os.environ["STEPFLOW_QUEUE_NAME"], worker_id=str(os.getpid()))):
    answer = new("CompleteTaskRequest", task_id=task.task_id)
    if task.WhichOneof("task") == "list_components":
        for id in ("where", "dies"):
            answer.list_components.components.add(component_id=id)
    elif task.execute.component_id == "dies" and not Path("died").exists():
        beat = new("TaskHeartbeatRequest", task_id=task.task_id, worker_id=str(os.getpid()))
        stub(channel, "OrchestratorService", "TaskHeartbeat")(beat)
        Path("died").touch()
        os._exit(3)
    else:
        seen = {name: os.environ.get(name) for name in NAMES}
        to_value({**seen, "cwd": os.getcwd(), "attempt": task.execute.attempt}, answer.response.output)
    complete(answer)
"""
LAUNCHER_WAITS_S = 10  # that of the reference, between SIGTERM and SIGKILL
STARTED = """
plugins:
  workers:
    type: grpc
    queueName: started
    command: %s
    args: [worker.py]
    env: {MINE: "mine", HOME: "/overridden"}
routes:
  /w: [{plugin: workers}]
"""
SERVICES = (
    "BlobService",
    "ComponentsService",
    "FlowsService",
    "HealthService",
    "OrchestratorService",
    "RunsService",
    "TasksService",
)


async def http(port: int, path: str) -> tuple[int, Any]:
    """Status and body of a plain request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)


@asynccontextmanager
async def serving(*arguments: str, stdin: bytes = b"", folder: Path) -> AsyncIterator[tuple[Any, str]]:
    """A server's process, and the first line that it says on stdout."""
    pipe = asyncio.subprocess.PIPE
    code = "from stepflow.cli.main import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        "--log-level",
        "info",
        "serve",
        *arguments,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd=folder,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(stdin)
    process.stdin.close()
    try:
        yield process, (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_01_grpc_and_http_share_the_port(client: Any, server: Any) -> None:
    status, _ = await http(server.port, "/api/v1/health")
    healthy = await client("HealthService", "HealthCheck")

    assert (status, healthy.status) == (200, "healthy")


@pytest.mark.parametrize("service", SERVICES)
async def test_02_every_service_answers_by_its_name(client: Any, service: str) -> None:
    for name, method in methods(service).items():
        assert method.path == f"/stepflow.v1.{service}/{name}"
        if not method.streams:
            stub, _ = client.stub(service, name)
            with suppress(grpc.aio.AioRpcError):
                await stub(MESSAGES[method.request.DESCRIPTOR.name](), timeout=60)
                continue
            assert await client.refused(service, name) != "UNIMPLEMENTED"


async def test_03_04_05_07_a_file_configures_it_a_free_port_is_said_and_sigterm_ends_it(
    tmp_path: Path, connect: Any, t: Any
) -> None:
    (tmp_path / "config.yml").write_text(CONFIG)
    async with serving("--config", "config.yml", "--port", "0", folder=tmp_path) as (process, said):
        port = json.loads(said)["port"]
        status, health = await http(port, "/api/v1/health")
        async with connect(port) as calls:
            worker = t.Worker(calls, "default", "w")
            await worker.introduce([ComponentInfo(id="echo")])
            process.send_signal(signal.SIGTERM)
            returned = await asyncio.wait_for(process.wait(), 120)  # its worker stays connected until then
            with pytest.raises(grpc.aio.AioRpcError):
                await worker.next()

    assert port > 0
    assert (status, health["status"]) == (200, "healthy")
    assert returned == 0
    assert max(GRACE_S, DRAIN_S + 1) < LAUNCHER_WAITS_S


async def test_06_a_configuration_on_stdin_may_hold_nulls(tmp_path: Path, connect: Any) -> None:
    config = {
        "plugins": {
            "builtin": {"type": "builtin"},
            "w": {
                "type": "grpc",
                "queueName": "q",
                "command": None,
                "args": None,
                "env": None,
                "queueTimeoutSecs": None,
                "executionTimeoutSecs": None,
            },
        },
        "routes": {"/builtin": [{"plugin": "builtin", "conditions": None}], "/w": [{"plugin": "w"}]},
        "storageConfig": None,
        "workingDirectory": None,
    }
    arguments = ("--config-stdin", "--port", "0")
    async with (
        serving(*arguments, stdin=json.dumps(config).encode(), folder=tmp_path) as (_, said),
        connect(json.loads(said)["port"]) as calls,
    ):
        listed = await calls("ComponentsService", "ListRegisteredComponents")

    assert "builtin" in {entry.plugin for entry in listed.components}
    assert [failure.plugin for failure in listed.failed_plugins] == ["w"]


async def test_08_messages_of_nearly_4_mib_are_taken(client: Any) -> None:
    content = bytes(4 * 1024 * 1024 - 200)
    asked = {"raw_data": content, "blob_type": "binary"}
    blob_id = (await client("BlobService", "PutBlob", **asked)).blob_id

    assert len(blob_id) == 64


@pytest.mark.slow
async def test_85_86_a_worker_that_the_server_starts_is_told_where_to_pull_and_started_again(
    tmp_path: Path, connect: Any, t: Any
) -> None:
    folder = tmp_path / "configured"
    folder.mkdir()
    (folder / "worker.py").write_text(WORKER)
    (folder / "config.yml").write_text(STARTED % sys.executable)
    async with serving("--config", "configured/config.yml", "--port", "0", folder=tmp_path) as (process, said):
        port = json.loads(said)["port"]
        async with connect(port) as calls:
            (where,) = await calls.outputs(await calls.begin(t.one("/w/where")))
            (died,) = await calls.outputs(await calls.begin(t.one("/w/dies")))
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 60)

    assert where["STEPFLOW_TRANSPORT"] == "grpc"
    assert where["STEPFLOW_TASKS_URL"].endswith(f":{port}")
    assert (where["STEPFLOW_QUEUE_NAME"], where["STEPFLOW_BLOB_URL"]) == ("started", where["STEPFLOW_TASKS_URL"])
    assert (where["MINE"], where["HOME"]) == ("mine", "/overridden")
    assert where["cwd"] == str(folder)
    assert died["attempt"] == 2
    assert "the worker says this" in err.decode()
