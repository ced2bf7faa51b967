"""The pools of `examples/production` as an operator runs them: scaled during a batch, killed, and nothing missing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stepflow.config.read import load_config

EXAMPLE = Path(__file__).parents[1] / "examples" / "production"
STEPFLOW = [sys.executable, "-c", "from stepflow.cli.main import main; main()"]
LONGEST_S = 240

POOLS = '''
"""The example's registries, whose components write down each call that ends; embedding takes a moment."""

import asyncio
import functools
import os
import sys
import time

sys.path.insert(0, {example!r})

import components
import stepflow


def write_down(name, ctx):
    file = os.open("ledger.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, f"{{name}} {{ctx.task_id}}\\n".encode())
    os.close(file)


cpu, memory = stepflow.Components(), stepflow.Components()
gpu = stepflow.Components(lifespan=components.load_model)


@cpu.component("/split")
def split(document: components.Text, ctx: stepflow.Context) -> list[str]:
    found = components.split(document)
    write_down("split", ctx)
    return found


@cpu.component("/words")
def words(part: components.Text, ctx: stepflow.Context) -> dict[str, int]:
    found = components.words(part)
    write_down("words", ctx)
    return found


@gpu.component("/embed", max_concurrency=1)
def embed(sentences: list[str], ctx: stepflow.Context) -> list[float]:
    time.sleep(0.012)
    found = components.embed(sentences, ctx)
    write_down("embed", ctx)
    return found


@memory.component("/summarise")
async def summarise(wanted: components.Wanted, ctx: stepflow.Context) -> list[str]:
    found = await components.summarise(wanted, ctx)
    write_down("summarise", ctx)
    return found
'''


class Site:
    """A server, its pools, and a batch that is submitted to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        (folder / "pools.py").write_text(POOLS.format(example=str(EXAMPLE)))
        lines = subprocess.run(
            [sys.executable, "documents.py"], cwd=EXAMPLE, capture_output=True, text=True, check=True, timeout=60
        )
        (folder / "documents.jsonl").write_text(lines.stdout)
        self.count = len(lines.stdout.splitlines())

    def start(self, *words: str, **options: object) -> "subprocess.Popen[str]":
        log = (self.folder / f"{len(self.processes)}.log").open("wb")
        with log:
            process = subprocess.Popen([*STEPFLOW, *words], cwd=self.folder, text=True, stderr=log, **options)
        self.processes.append(process)
        return process

    def serve(self, port: str = "0") -> "subprocess.Popen[str]":
        config = str(EXAMPLE / "config.prod.yml")
        server = self.start("serve", "--config", config, "--store", "runs.db", "--port", port, stdout=subprocess.PIPE)
        assert server.stdout is not None
        self.url = f"127.0.0.1:{json.loads(server.stdout.readline())['port']}"
        return server

    def workers(self, pool: str, count: int, slots: int = 2) -> "list[subprocess.Popen[str]]":
        words = ("--queue", pool, "--url", self.url, "--max-concurrent", str(slots))
        return [self.start("worker", f"pools:{pool}", *words) for _ in range(count)]

    def submit(self) -> "subprocess.Popen[str]":
        words = ("--inputs", "documents.jsonl", "--output", "out.jsonl", "--url", self.url, "--max-concurrency", "40")
        return self.start("submit", str(EXAMPLE / "flow.yaml"), *words)

    def calls(self) -> list[str]:
        """The component and the task of each call that ended."""
        ledger = self.folder / "ledger.txt"
        return ledger.read_text().splitlines() if ledger.exists() else []

    @property
    def embedded(self) -> int:
        return sum(call.startswith("embed ") for call in self.calls())

    def repeated(self) -> dict[str, int]:
        return {call: times for call, times in Counter(self.calls()).items() if times > 1}

    def until(self, holds: Callable[[], bool], batch: "subprocess.Popen[str]") -> None:
        """Return once it holds, while the batch goes on."""
        until = time.monotonic() + LONGEST_S
        while not holds():
            assert batch.poll() is None, self.said(batch)
            assert time.monotonic() < until, self.said(batch)
            time.sleep(0.02)

    def said(self, process: "subprocess.Popen[str]") -> str:
        return (self.folder / f"{self.processes.index(process)}.log").read_text()[-3_000:]

    def results(self) -> list[object]:
        return parsed(self.folder / "out.jsonl")

    def expected(self) -> list[object]:
        """The same batch in one process."""
        words = ["run", "flow.yaml", "--config", "config.dev.yml", "--inputs", str(self.folder / "documents.jsonl")]
        output = self.folder / "expected.jsonl"
        line = [*STEPFLOW, *words, "--output", str(output)]
        subprocess.run(line, cwd=EXAMPLE, check=True, capture_output=True, timeout=LONGEST_S)
        return parsed(output)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate(timeout=60)


def parsed(file: Path) -> list[object]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_each_pattern_leads_to_the_queue_of_its_pool() -> None:
    config = load_config(EXAMPLE / "config.prod.yml", environ=os.environ)

    assert config.warnings == ()
    assert list(config.routes) == ["/ml/{*component}", "/data/{*component}", "/python/{*component}", "/{*component}"]


@pytest.mark.slow
def test_pools_scale_and_die_during_a_batch_and_nothing_is_missing(site: Site) -> None:
    site.serve()
    cpu, gpu, memory = site.workers("cpu", 3), site.workers("gpu", 1), site.workers("memory", 2)
    batch = site.submit()

    site.until(lambda: site.embedded > 50, batch)
    cpu += site.workers("cpu", 17)
    site.until(lambda: site.embedded > 300, batch)
    for worker in (cpu[0], cpu[5], memory[0], gpu[0]):
        worker.send_signal(signal.SIGKILL)
    gpu += site.workers("gpu", 2)
    site.until(lambda: site.embedded > 700, batch)
    for worker in cpu[6:]:
        worker.send_signal(signal.SIGTERM)
    for worker in cpu[6:]:
        assert worker.wait(timeout=60) == 0, site.said(worker)
    assert batch.wait(timeout=LONGEST_S) == 0, site.said(batch)

    assert site.count > 1_000
    assert site.results() == site.expected()
    assert len(site.repeated()) <= 8  # what the four workers that were killed had in their hands


@pytest.mark.slow
def test_a_server_that_is_killed_goes_on_where_it_was(site: Site) -> None:
    server = site.serve()
    site.workers("cpu", 2)
    site.workers("gpu", 1)
    site.workers("memory", 1)
    batch = site.submit()

    site.until(lambda: site.embedded > 200, batch)
    server.send_signal(signal.SIGKILL)
    server.wait(timeout=60)
    site.serve(site.url.rpartition(":")[2])

    assert batch.wait(timeout=LONGEST_S) == 0, site.said(batch)
    assert site.results() == site.expected()
    assert site.repeated() == {}  # workers keep their answers until a server has recorded them


@pytest.mark.slow
def test_a_rolling_restart_runs_nothing_twice(site: Site) -> None:
    server = site.serve()
    pools = {pool: site.workers(pool, count) for pool, count in (("cpu", 2), ("gpu", 1), ("memory", 1))}
    batch = site.submit()

    for done in (150, 450):
        site.until(lambda done=done: site.embedded > done, batch)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0, site.said(server)
        server = site.serve(site.url.rpartition(":")[2])
        for pool, workers in pools.items():
            for worker in list(workers):
                workers += site.workers(pool, 1)
                workers.remove(worker)
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(timeout=60) == 0, site.said(worker)

    assert batch.wait(timeout=LONGEST_S) == 0, site.said(batch)
    assert site.results() == site.expected()
    assert site.repeated() == {}
