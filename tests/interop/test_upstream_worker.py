"""The reference system's own worker, unmodified, on our queues."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow]

CONFIG = """
plugins:
  builtin: {type: builtin}
  workers: {type: grpc, queueName: default}
routes:
  /builtin: [{plugin: builtin}]
  /gpu: [{plugin: workers, queueName: gpu}]
  /w: [{plugin: workers}]
"""

WORKER = """
import asyncio, os, sys, time
from pathlib import Path
from stepflow_py.worker import StepflowContext, StepflowServer
from stepflow_py.worker.grpc_worker import run_grpc_worker

server = StepflowServer()


@server.component
def double(n: int) -> int:
    return n * 2


@server.component
def length(n: str) -> int:
    return len(n)


@server.component
async def sub(n: int, ctx: StepflowContext) -> list:
    flow = {"steps": [{"id": "d", "component": "/w/double", "input": {"$input": "$"}}], "output": {"$step": "d"}}
    done = await ctx.submit_run(flow, inputs=[n, n + 1])
    return [result["output"] for result in done["results"]]


@server.component
async def die_once(n: int) -> int:
    if not Path("died").exists():
        Path("died").touch()
        os._exit(1)
    return n


@server.component
def fails(n: int) -> int:
    raise ValueError(f"{n} is bad")


asyncio.run(run_grpc_worker(server, sys.argv[1], sys.argv[2]))
"""

CLIENT = """
import asyncio, json, sys
from stepflow_py import StepflowClient


def flow(*components):
    steps, source = [], {"$input": "$"}
    for number, component in enumerate(components):
        steps.append({"id": f"s{number}", "component": component, "input": source})
        source = {"$step": f"s{number}"}
    return {"name": "f", "steps": steps, "output": source}


async def main():
    async with StepflowClient.connect(sys.argv[1]) as client:
        stored = await client.store_flow(flow(*sys.argv[2].split(",")))
        done = await client.run(stored.flow_id, json.load(sys.stdin), max_concurrency=50)
    results = await items(done.summary.run_id)
    print(json.dumps({"status": done.summary.status, "results": results}))


async def items(run_id):
    async with StepflowClient.connect(sys.argv[1]) as client:
        return await client.get_run_items(run_id)


asyncio.run(main())
"""


class Site:
    """A server of ours, and the reference's workers and client around it."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.python = python
        self.processes: list[subprocess.Popen[str]] = []
        code = "from stepflow.cli.main import main; main()"
        line = [sys.executable, "-c", code, "serve", "--config", "config.yml", "--port", "0"]
        self.server = self._start(line, stdout=subprocess.PIPE)
        assert self.server.stdout is not None
        self.address = f"127.0.0.1:{json.loads(self.server.stdout.readline())['port']}"

    def _start(self, line: list[Any], **options: Any) -> "subprocess.Popen[str]":
        process = subprocess.Popen(line, cwd=self.folder, text=True, stderr=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def worker(self, queue: str = "default") -> "subprocess.Popen[str]":
        environment = {**os.environ, "STEPFLOW_BLOB_URL": self.address}
        return self._start([self.python, "worker.py", self.address, queue], env=environment, stdout=subprocess.DEVNULL)

    def run(self, components: str, items: list[Any]) -> dict[str, Any]:
        line = [self.python, "client.py", self.address, components]
        options: dict[str, Any] = {"input": json.dumps(items), "capture_output": True, "text": True}
        done = subprocess.run(line, cwd=self.folder, timeout=120, **options)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


@contextmanager
def opened(folder: Path, python: Path) -> Iterator[Site]:
    for name, text in (("config.yml", CONFIG), ("worker.py", WORKER), ("client.py", CLIENT)):
        (folder / name).write_text(text)
    site = Site(folder, python)
    try:
        yield site
    finally:
        for process in site.processes:
            process.kill()
            process.communicate(timeout=60)


@pytest.fixture
def site(tmp_path: Path, upstream_python: Path) -> Iterator[Site]:
    with opened(tmp_path, upstream_python) as made:
        yield made


def outputs(answer: dict[str, Any]) -> list[Any]:
    return [result.get("output") for result in answer["results"]]


def test_a_batch_goes_through_two_workers(site: Site) -> None:
    workers = [site.worker(), site.worker()]

    answer = site.run("/w/double,/w/double", list(range(300)))

    assert answer["status"] == 2
    assert outputs(answer) == [4 * n for n in range(300)]
    assert [worker.poll() for worker in workers] == [None, None]


def test_a_worker_of_another_queue_serves_its_route(site: Site) -> None:
    site.worker("gpu")

    assert outputs(site.run("/gpu/double", [1, 2])) == [2, 4]


def test_a_worker_submits_runs_that_come_back_to_the_workers(site: Site) -> None:
    site.worker()

    assert outputs(site.run("/w/sub", [10])) == [[20, 22]]


def test_a_task_of_a_worker_that_died_is_done_by_another(site: Site) -> None:
    for _ in range(2):
        site.worker()

    answer = site.run("/w/die_once", [7])

    assert outputs(answer) == [7]
    assert (site.folder / "died").exists()


def test_a_task_that_is_larger_than_its_grpc_takes_fails_once_and_for_all(site: Site) -> None:
    worker = site.worker()

    answer = site.run("/w/length", ["a", "x" * 5 * 1024**2, "b", "x" * 6 * 1024**2])

    first, large, last, larger = answer["results"]
    assert (first["output"], last["output"]) == (1, 1)
    assert large["error_code"] == larger["error_code"] == "TASK_ERROR_CODE_INVALID_INPUT"
    assert "step 's0' makes a message of 5.0 MiB" in large["error_message"]
    assert worker.poll() is None


def test_an_exception_of_a_component_is_told_with_its_code(site: Site) -> None:
    site.worker()

    answer = site.run("/w/fails", [5])

    assert answer["status"] == 3
    assert answer["results"][0]["error_message"] == "5 is bad"
    assert answer["results"][0]["error_code"] == "TASK_ERROR_CODE_COMPONENT_FAILED"


def test_the_server_ends_when_told_though_a_worker_is_connected(site: Site) -> None:
    site.worker()
    site.run("/w/double", [1])

    site.server.send_signal(signal.SIGTERM)

    assert site.server.wait(timeout=60) == 0
