"""Server and workers are replaced one by one during a batch, with the reference system's own workers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow]

CONFIG = """
plugins:
  builtin: {type: builtin}
  workers: {type: grpc, queueName: default}
routes:
  /builtin: [{plugin: builtin}]
  /w: [{plugin: workers}]
"""
FLOW = """\
name: twice
steps:
  - {id: first, component: /w/first, input: {$input: $}}
  - {id: second, component: /w/second, input: {$step: first}}
output: {$step: second}
"""
WORKER = """
import asyncio, os, sys
from stepflow_py.worker import StepflowServer
from stepflow_py.worker.grpc_worker import run_grpc_worker

server = StepflowServer()


def note(line):
    file = os.open("ledger.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, f"{line}\\n".encode())
    os.close(file)


@server.component
async def first(n: int) -> int:
    await asyncio.sleep(0.05)
    note(f"first {n}")
    return n


@server.component
async def second(n: int) -> int:
    await asyncio.sleep(0.05)
    note(f"second {n}")
    return n * 10


asyncio.run(run_grpc_worker(server, sys.argv[1], "default"))
"""
ITEMS = 1_500
LONGEST_S = 240
STEPFLOW = [sys.executable, "-c", "from stepflow.cli.main import main; main()"]


class Site:
    """A server of ours on a port that stays the same, workers of the reference, and a batch."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.python = python
        self.url = ""
        self.processes: list[subprocess.Popen[str]] = []
        for name, text in (("config.yml", CONFIG), ("worker.py", WORKER), ("flow.yaml", FLOW)):
            (folder / name).write_text(text)
        (folder / "in.jsonl").write_text("".join(f"{number}\n" for number in range(ITEMS)))

    def start(self, line: list[str], **options: object) -> "subprocess.Popen[str]":
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(line, cwd=self.folder, text=True, stderr=log, **options)
        self.processes.append(process)
        return process

    def serve(self) -> "subprocess.Popen[str]":
        port = self.url.rpartition(":")[2] or "0"
        line = [*STEPFLOW, "serve", "--config", "config.yml", "--store", "runs.db", "--port", port]
        server = self.start(line, stdout=subprocess.PIPE)
        assert server.stdout is not None
        self.url = f"127.0.0.1:{json.loads(server.stdout.readline())['port']}"
        return server

    def worker(self) -> "subprocess.Popen[str]":
        environment = {**os.environ, "STEPFLOW_BLOB_URL": self.url}
        return self.start([str(self.python), "worker.py", self.url], env=environment, stdout=subprocess.DEVNULL)

    def submit(self) -> "subprocess.Popen[str]":
        words = ["submit", "flow.yaml", "--inputs", "in.jsonl", "--output", "out.jsonl", "--url", self.url]
        return self.start([*STEPFLOW, *words, "--max-concurrency", "40"])

    def calls(self) -> list[str]:
        ledger = self.folder / "ledger.txt"
        return ledger.read_text().splitlines() if ledger.exists() else []

    def until(self, count: int, batch: "subprocess.Popen[str]") -> None:
        """Return once so many calls have ended, while the batch goes on."""
        until = time.monotonic() + LONGEST_S
        while len(self.calls()) < count:
            assert batch.poll() is None, self.said(batch)
            assert time.monotonic() < until, self.said(batch)
            time.sleep(0.02)

    def said(self, process: "subprocess.Popen[str]") -> str:
        return (self.folder / f"{self.processes.index(process)}.log").read_text()[-3_000:]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate(timeout=60)


@pytest.fixture
def site(tmp_path: Path, upstream_python: Path) -> Iterator[Site]:
    made = Site(tmp_path, upstream_python)
    try:
        yield made
    finally:
        made.close()


def replaced(site: Site, workers: "list[subprocess.Popen[str]]") -> None:
    """Each by a new one: it goes with its next assignment, after what it is at."""
    for worker in list(workers):
        workers.append(site.worker())
        workers.remove(worker)
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=60)


def test_a_rolling_restart_loses_nothing_and_runs_nothing_twice(site: Site) -> None:
    server = site.serve()
    workers = [site.worker() for _ in range(3)]
    batch = site.submit()

    for done in (300, 1_200):
        site.until(done, batch)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0, site.said(server)
        server = site.serve()
        site.until(done + 400, batch)
        replaced(site, workers)

    assert batch.wait(timeout=LONGEST_S) == 0, site.said(batch)
    results = [json.loads(line) for line in (site.folder / "out.jsonl").read_text().splitlines()]
    assert [result["result"] for result in results] == [n * 10 for n in range(ITEMS)]
    counts = Counter(site.calls())
    assert len(counts) == 2 * ITEMS
    assert {call: times for call, times in counts.items() if times > 1} == {}
