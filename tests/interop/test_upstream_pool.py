"""The reference system's own worker, unmodified, as a `command:` of our server."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from polled import until
from serve_process import Serving, is_alive

pytestmark = [pytest.mark.slow]

WORKER = """
import asyncio, os, time
from pathlib import Path
from stepflow_py.worker import StepflowServer
from stepflow_py.worker.grpc_worker import run_grpc_worker

server = StepflowServer()


@server.component
async def where(n: int) -> dict:
    names = ("TRANSPORT", "TASKS_URL", "QUEUE_NAME", "BLOB_URL")
    return {"cwd": os.getcwd(), **{name: os.environ.get("STEPFLOW_" + name) for name in names}}


@server.component
async def gate(n: int) -> int:
    with open("begun", "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not Path("open").exists():
        await asyncio.sleep(0.01)
    return n * 2


print("a worker begins")
asyncio.run(run_grpc_worker(server, os.environ["STEPFLOW_TASKS_URL"], os.environ["STEPFLOW_QUEUE_NAME"]))
"""

CLIENT = """
import asyncio, json, sys
from stepflow_py import StepflowClient


async def main():
    async with StepflowClient.connect(sys.argv[1]) as client:
        step = {"id": "s", "component": sys.argv[2], "input": {"$input": "$"}}
        stored = await client.store_flow({"name": "f", "steps": [step], "output": {"$step": "s"}})
        done = await client.run(stored.flow_id, json.loads(sys.argv[3]), max_concurrency=50)
    async with StepflowClient.connect(sys.argv[1]) as client:
        print(json.dumps(await client.get_run_items(done.summary.run_id)))


asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path, upstream_python: Path) -> Path:
    plugin = {"type": "grpc", "queueName": "own", "command": str(upstream_python), "args": ["worker.py"]}
    config = {"plugins": {"w": plugin}, "routes": {"/w": [{"plugin": "w"}]}}
    (tmp_path / "c.json").write_text(json.dumps(config))
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "client.py").write_text(CLIENT)
    return tmp_path


def submitted(folder: Path, python: Path, port: int, component: str, items: list[Any]) -> "subprocess.Popen[str]":
    line = [python, "client.py", f"127.0.0.1:{port}", component, json.dumps(items)]
    return subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, text=True)


def outputs(client: "subprocess.Popen[str]") -> list[Any]:
    said, _ = client.communicate(timeout=180)
    return [item.get("output") for item in json.loads(said.splitlines()[-1])]


def begun(folder: Path) -> list[int]:
    file = folder / "begun"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_it_is_started_where_the_configuration_is_and_finds_its_server_by_the_variables(
    folder: Path, upstream_python: Path
) -> None:
    served = Serving(folder, "--config", "c.json", "--port", "0")
    try:
        (found,) = outputs(submitted(folder, upstream_python, served.port, "/w/where", [1]))
        until(lambda: "[own/1] " in served.err, "the server passes on what its worker says")
    finally:
        served.close()

    url = f"127.0.0.1:{served.port}"
    assert found == {
        "cwd": str(folder),
        "TRANSPORT": "grpc",
        "TASKS_URL": url,
        "QUEUE_NAME": "own",
        "BLOB_URL": url,
    }


def test_a_dead_one_is_replaced_once_and_what_it_had_in_hand_is_done(folder: Path, upstream_python: Path) -> None:
    served = Serving(folder, "--config", "c.json", "--port", "0")
    try:
        client = submitted(folder, upstream_python, served.port, "/w/gate", [1, 2, 3, 4])
        until(lambda: len(begun(folder)) == 4, "four tasks are in flight")
        (dead,) = set(begun(folder))
        os.kill(dead, signal.SIGKILL)
        until(lambda: len(begun(folder)) == 8, "all four have begun again")
        (folder / "open").touch()
        found = outputs(client)
        said = served.err
    finally:
        served.close()

    assert found == [2, 4, 6, 8]
    assert said.count("died after") == 1
    assert len(set(begun(folder))) == 2


def test_it_does_not_keep_the_server_from_ending_though_it_heeds_no_signal(folder: Path) -> None:
    served = Serving(folder, "--config", "c.json", "--port", "0")
    try:
        served.until_said(r"^queue own: 1 worker, 4 slots$", bound_s=60)
        workers = served.workers()
        served.process.terminate()
        code = served.process.wait(60)
    finally:
        served.close()

    assert code == 0
    assert workers
    assert not any(is_alive(pid) for pid in workers)
