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
"""The example's registries; embedding takes a moment, and tells what it was asked for."""

import os
import sys
import time

sys.path.insert(0, {example!r})

import stepflow
from components import cpu, embed as real_embed, load_model, memory

gpu = stepflow.Components(lifespan=load_model)


@gpu.component("/embed", max_concurrency=1)
def embed(sentences: list[str], ctx: stepflow.Context) -> list[float]:
    time.sleep(0.012)
    found = real_embed(sentences, ctx)
    line = f"{{ctx.task_id}}\\n".encode()
    file = os.open("ledger.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, line)
    os.close(file)
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

    def serve(self) -> str:
        config = str(EXAMPLE / "config.prod.yml")
        server = self.start("serve", "--config", config, "--store", "runs.db", "--port", "0", stdout=subprocess.PIPE)
        assert server.stdout is not None
        self.url = f"127.0.0.1:{json.loads(server.stdout.readline())['port']}"
        return self.url

    def workers(self, pool: str, count: int, slots: int = 2) -> "list[subprocess.Popen[str]]":
        words = ("--queue", pool, "--url", self.url, "--max-concurrent", str(slots))
        return [self.start("worker", f"pools:{pool}", *words) for _ in range(count)]

    def submit(self) -> "subprocess.Popen[str]":
        words = ("--inputs", "documents.jsonl", "--output", "out.jsonl", "--url", self.url, "--max-concurrency", "40")
        return self.start("submit", str(EXAMPLE / "flow.yaml"), *words)

    def embedded(self) -> list[str]:
        ledger = self.folder / "ledger.txt"
        return ledger.read_text().splitlines() if ledger.exists() else []

    def until(self, holds: Callable[[], bool], batch: "subprocess.Popen[str]") -> None:
        """Return once it holds, while the batch goes on."""
        until = time.monotonic() + LONGEST_S
        while not holds():
            assert batch.poll() is None, self.said(batch)
            assert time.monotonic() < until, self.said(batch)
            time.sleep(0.02)

    def said(self, process: "subprocess.Popen[str]") -> str:
        return (self.folder / f"{self.processes.index(process)}.log").read_text()[-3_000:]

    def expected(self) -> str:
        """The same batch in one process."""
        words = ["run", "flow.yaml", "--config", "config.dev.yml", "--inputs", str(self.folder / "documents.jsonl")]
        output = self.folder / "expected.jsonl"
        line = [*STEPFLOW, *words, "--output", str(output)]
        subprocess.run(line, cwd=EXAMPLE, check=True, capture_output=True, timeout=LONGEST_S)
        return output.read_text()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate(timeout=30)


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

    site.until(lambda: len(site.embedded()) > 50, batch)
    cpu += site.workers("cpu", 17)
    site.until(lambda: len(site.embedded()) > 300, batch)
    for worker in (cpu[0], cpu[5], memory[0], gpu[0]):
        worker.send_signal(signal.SIGKILL)
    gpu += site.workers("gpu", 2)
    site.until(lambda: len(site.embedded()) > 700, batch)
    for worker in cpu[6:]:
        worker.send_signal(signal.SIGTERM)
    for worker in cpu[6:]:
        assert worker.wait(timeout=60) == 0, site.said(worker)
    assert batch.wait(timeout=LONGEST_S) == 0, site.said(batch)

    assert site.count > 1_000
    assert (site.folder / "out.jsonl").read_text() == site.expected()
    repeated = {task: times for task, times in Counter(site.embedded()).items() if times > 1}
    assert len(repeated) <= 2  # what the GPU worker that was killed had in its hands


@pytest.mark.slow
def test_a_server_that_is_killed_goes_on_where_it_was(site: Site) -> None:
    url = site.serve()
    server = site.processes[-1]
    site.workers("cpu", 2)
    site.workers("gpu", 1)
    site.workers("memory", 1)
    batch = site.submit()

    site.until(lambda: len(site.embedded()) > 200, batch)
    server.send_signal(signal.SIGKILL)
    server.wait(timeout=30)
    config = str(EXAMPLE / "config.prod.yml")
    site.start("serve", "--config", config, "--store", "runs.db", "--port", url.rpartition(":")[2])

    assert batch.wait(timeout=LONGEST_S) == 0, site.said(batch)
    assert (site.folder / "out.jsonl").read_text() == site.expected()
    assert max(Counter(site.embedded()).values()) == 1  # workers keep their answers until a server has taken them
