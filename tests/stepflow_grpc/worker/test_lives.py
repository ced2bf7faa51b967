"""Real workers whose components give no thread a turn, that are stopped, and that are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import hard_components
import pytest
from cutting_proxy import CuttingProxy

from stepflow.engine import Engine
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.queues.records import WorkerStatistics
from stepflow_grpc.server import Server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PATIENCE_S = 120.0

WORKER = """
import sys

from hard_components import app
from stepflow_grpc import run_worker

run_worker(app, queue="q", worker_id=sys.argv[1], url=sys.argv[2], fast_path=bool(sys.argv[3]))
"""


class Site:
    """A server in this process, and workers in their own."""

    def __init__(self, engine: Engine, server: Server, place: Path, *, fast_path: bool) -> None:
        self.engine = engine
        self.server = server
        self.go = place / "go"
        self._ledger = place / "ledger"
        self._fast_path = fast_path
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, port: int | None = None) -> subprocess.Popen[bytes]:
        url = f"127.0.0.1:{port or self.server.port}"
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, name, url, "fast path" if self._fast_path else ""],
            cwd=Path(hard_components.__file__).parent,
            env={**os.environ, "STEPFLOW_TEST_LEDGER": str(self._ledger), "STEPFLOW_TEST_WORKER": name},
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def worker(self, name: str) -> WorkerStatistics | None:
        return next((worker for worker in self.server._hub.queues.workers() if worker.id == name), None)

    async def connected(self, name: str) -> None:
        await until(lambda: (worker := self.worker(name)) is not None and worker.queues)

    def begun(self) -> list[str]:
        """What began where, in the order it did."""
        return self._ledger.read_text().splitlines() if self._ledger.exists() else []

    async def explained(self) -> str:
        """Why the newest run does not go on."""
        found = await self.engine.list_runs(limit=1)
        return str(await self.engine.explain(found[0].id)) if found else ""

    async def run(self, component: str, *inputs: Any) -> Any:
        flow = {
            "steps": [{"id": "s", "component": f"/w{component}", "input": {"$input": "$"}}],
            "output": {"$step": "s"},
        }
        run = await self.engine.submit(flow, list(inputs))
        with anyio.fail_after(PATIENCE_S):
            outputs = [result.output async for result in run.results()]
        return outputs if len(inputs) > 1 else outputs[0]

    def close(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_S)


async def until(holds: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not holds():
            await anyio.sleep(0.02)


@pytest.fixture
async def site(tmp_path: Path, fast_path: bool) -> AsyncIterator[Site]:
    plugins = {"workers": QueuePlugin(name="workers", queue="q")}
    engine = Engine(plugins=plugins, routes={"/w": [{"plugin": "workers"}]})
    async with engine, Server(engine, port=0) as server:
        opened = Site(engine, server, tmp_path, fast_path=fast_path)
        try:
            yield opened
        finally:
            opened.close()


@pytest.mark.parametrize(
    ("component", "input", "output"), [("match", 28, "matched"), ("sit", 10, "sat"), ("block", 6, "blocked")]
)
async def test_a_worker_that_is_held_up_keeps_its_task_and_it_is_said_what_holds_it(
    site: Site, caplog: pytest.LogCaptureFixture, component: str, input: int, output: str
) -> None:
    site.start("one")
    await site.connected("one")
    site.start("other")
    await site.connected("other")
    stacks: set[str] = set()
    explained: set[str] = set()

    async with anyio.create_task_group() as watching:

        async def watch() -> None:
            while True:
                stacks.update(worker.stack for worker in site.server._hub.queues.workers() if worker.stack)
                explained.add(await site.explained())
                await anyio.sleep(0.1)

        watching.start_soon(watch)
        answer = await site.run(f"/{component}", input)
        await until(lambda: not any(worker.held_up_s for worker in site.server._hub.queues.workers()))
        watching.cancel_scope.cancel()

    assert answer == output
    assert len(site.begun()) == 1
    assert stacks
    assert any("has had no turn" in each and f"in {component}\n" in each for each in explained)
    assert all(f"in {component}\n" in stack for stack in stacks)
    assert sum("has had no turn" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(("component", "input", "output"), [("hold", 8, "held"), ("pooled", 28, "pooled")])
async def test_a_worker_whose_thread_or_process_is_held_for_long_is_not_held_up(
    site: Site, caplog: pytest.LogCaptureFixture, component: str, input: int, output: str
) -> None:
    site.start("one")
    await site.connected("one")
    site.start("other")
    await site.connected("other")

    answer = await site.run(f"/{component}", input)

    assert answer == output
    assert len(site.begun()) == 1
    assert not any("has had no turn" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_the_task_of_a_worker_that_is_stopped_or_killed_is_done_by_another(
    site: Site, number: signal.Signals
) -> None:
    first = site.start("one")
    await site.connected("one")
    answers = []

    async with anyio.create_task_group() as running:

        async def run() -> None:
            answers.append(await site.run("/wait", str(site.go)))

        running.start_soon(run)
        await until(site.begun)
        site.start("other")
        await site.connected("other")
        first.send_signal(number)
        await until(lambda: len(site.begun()) == 2)
        if number is signal.SIGSTOP:
            first.send_signal(signal.SIGCONT)
            await until(lambda: (worker := site.worker("one")) is not None and worker.silent_s < 1)
        site.go.touch()

    assert answers == ["other"]
    assert site.begun() == ["wait one", "wait other"]


async def test_a_held_up_worker_whose_connections_are_cut_keeps_its_task(site: Site) -> None:
    """It can't connect again: that it lives is said beside it."""
    async with CuttingProxy(site.server.port) as proxy, anyio.create_task_group() as running:
        site.start("one", proxy.port)
        await site.connected("one")
        answers = []

        async def run() -> None:
            answers.append(await site.run("/sit", 10))

        running.start_soon(run)
        await until(lambda: (worker := site.worker("one")) is not None and worker.claimed)
        site.start("other")
        await site.connected("other")
        await proxy.cut()
        await until(lambda: (worker := site.worker("one")) is not None and not worker.queues)
        await until(lambda: answers)

    assert answers == ["sat"]
    assert site.begun() == ["sit one"]


async def test_what_a_held_up_worker_was_sent_and_did_not_begin_is_done_once_by_another(site: Site) -> None:
    site.start("one")
    await site.connected("one")

    async with anyio.create_task_group() as running:
        running.start_soon(site.run, "/sit", 8)
        await until(site.begun)
        site.start("other")
        await site.connected("other")
        answers = await site.run("/quick", *range(6))
        done = site.begun()
    await site.run("/quick", 6)

    assert answers == list(range(6))
    assert sorted(done) == [
        "quick-0 other",
        "quick-1 other",
        "quick-2 other",
        "quick-3 other",
        "quick-4 other",
        "quick-5 other",
        "sit one",
    ]
    assert len(site.begun()) == len(done) + 1
