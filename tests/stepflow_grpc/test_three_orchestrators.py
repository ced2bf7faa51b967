"""Three orchestrators on one database, as processes, and workers that are attached to one of them only."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import psycopg
import pytest

from stepflow_grpc.wire import from_value, to_struct, to_value

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

WORKERS, SLOTS = 2, 2
PATIENCE_S = 60.0
"""Of what is waited for, on a machine that has other things to do too."""

COMPONENTS = """
import os, time
import stepflow

app = stepflow.Components()


@app.component("/double")
def double(task: dict) -> int:
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{task['run']} {task['n']}\\n")
    time.sleep(0.1)
    return 2 * task["n"]


newer = stepflow.Components()


@newer.component("/less")
def less(n: int) -> int:
    return n - 1
"""
FLOW = {"steps": [{"id": "d", "component": "/gpu/double", "input": {"$input": "$"}}], "output": {"$step": "d"}}
BOTH = {
    "steps": [*FLOW["steps"], {"id": "l", "component": "/gpu/less", "input": {"$step": "d"}}],
    "output": {"$step": "l"},
}
CONFIG = {
    "plugins": {"gpu": {"type": "grpc", "queueName": "gpu"}},
    "routes": {"/gpu": [{"plugin": "gpu"}]},
}

Process: TypeAlias = "subprocess.Popen[str]"
Start = Callable[..., Process]


class Ledger:
    """What components were called with, told by themselves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def calls(self) -> Counter[tuple[str, int]]:
        lines = (line.split() for line in self._path.read_text().splitlines())
        return Counter((run, int(n)) for run, n in lines)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    (tmp_path / "components.py").write_text(COMPONENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    for name in [name for name in os.environ if name.startswith("STEPFLOW_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def start(ledger: Ledger, tmp_path: Path) -> Iterator[Start]:
    """Start a command of ours; it ends with the test."""
    with ExitStack() as stack:
        logs = (stack.enter_context(open(tmp_path / f"log-{number}", "w")) for number in range(100))

        def started(*arguments: str, stdin: str = "") -> Process:
            code = "from stepflow.cli.main import main; main()"
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=next(logs),
                text=True,
            )
            stack.enter_context(_ended(process))
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.close()
            process.stdin = None
            return process

        yield started


@contextmanager
def _ended(process: Process) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


@pytest.fixture
def serve(start: Start, empty_postgres_url: str) -> Callable[..., tuple[Process, int]]:
    def served(port: int = 0) -> tuple[Process, int]:
        line = ("serve", "--config-stdin", "--store", empty_postgres_url, "--port", str(port))
        process = start(*line, stdin=json.dumps(CONFIG))
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())["port"]

    return served


async def submit(calls: Any, name: str, count: int, flow: Any = FLOW) -> str:
    flow_id = (await calls("FlowsService", "StoreFlow", flow=to_struct(flow))).flow_id
    inputs = [to_value({"run": name, "n": n}) for n in range(count)]
    response = await calls("RunsService", "CreateRun", flow_id=flow_id, input=inputs, max_concurrency=count)
    return str(response.summary.run_id)


async def outputs(calls: Any, run_id: str) -> list[Any]:
    with anyio.fail_after(PATIENCE_S):
        await calls("RunsService", "GetRun", run_id=run_id, wait=True)
        found = (await calls("RunsService", "GetRunItems", run_id=run_id)).results
    return [from_value(result.output) for result in found]


async def listed(calls: Any, wanted: set[str]) -> None:
    """Return once a server knows of these components, whoever's workers have them."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            found = (await calls("ComponentsService", "ListRegisteredComponents", exclude_schemas=True)).components
            if wanted <= {entry.component_id for entry in found}:
                return
            await anyio.sleep(0.05)


async def until(holds: Callable[[], Any]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not holds():
            await anyio.sleep(0.05)


def unfinished(url: str) -> Counter[str]:
    """How many runs each engine has."""
    plain, _, schema = url.partition("&schema=")
    with psycopg.connect(plain) as connection:
        rows = connection.execute(f"SELECT owner FROM {schema}._runs WHERE status = 'running'".encode()).fetchall()
    return Counter(owner for (owner,) in rows)


async def test_workers_of_one_orchestrator_do_the_runs_of_all(
    serve: Any, start: Start, call: Any, ledger: Ledger
) -> None:
    count, ports = 30, [serve()[1] for _ in range(3)]
    line = ("worker", "components:app", "--queue", "gpu", "-n", str(SLOTS), "--url", f"127.0.0.1:{ports[0]}")
    for _ in range(WORKERS):
        start(*line)

    found = {}
    async with call(ports[0]) as first, call(ports[1]) as second, call(ports[2]) as third:
        servers = {"first": first, "second": second, "third": third}
        runs = {name: await submit(calls, name, count) for name, calls in servers.items()}
        for name, calls in servers.items():
            found[name] = await outputs(calls, runs[name])

    assert found == dict.fromkeys(servers, [2 * n for n in range(count)])
    assert ledger.calls() == Counter((name, n) for name in servers for n in range(count))


async def test_each_task_goes_to_the_orchestrator_whose_workers_have_its_component(
    serve: Any, start: Start, call: Any, ledger: Ledger
) -> None:
    count, ports = 4, [serve()[1] for _ in range(3)]
    for registry, port in (("app", ports[0]), ("newer", ports[1])):
        start("worker", f"components:{registry}", "--queue", "gpu", "-n", str(SLOTS), "--url", f"127.0.0.1:{port}")

    found = {}
    async with call(ports[0]) as first, call(ports[1]) as second, call(ports[2]) as third:
        servers = {"first": first, "second": second, "third": third}
        for calls in servers.values():
            await listed(calls, {"double", "less"})
        runs = {name: await submit(calls, name, count, BOTH) for name, calls in servers.items()}
        for name, calls in servers.items():
            found[name] = await outputs(calls, runs[name])

    assert found == dict.fromkeys(servers, [2 * n - 1 for n in range(count)])
    assert ledger.calls() == Counter((name, n) for name in servers for n in range(count))


async def test_when_the_orchestrator_of_the_workers_is_killed_others_have_its_runs_and_nothing_is_lost(
    serve: Any, start: Start, call: Any, ledger: Ledger, empty_postgres_url: str
) -> None:
    count = 60
    servers = [serve() for _ in range(3)]
    (doomed, port), (_, second), (_, third) = servers
    line = ("worker", "components:app", "--queue", "gpu", "-n", str(SLOTS), "--url", f"127.0.0.1:{port}")
    for _ in range(WORKERS):
        start(*line)
    async with call(port) as calls:
        run = await submit(calls, "killed", count)
    async with call(second) as calls:
        other = await submit(calls, "other", count)
    await until(lambda: {name for name, _ in ledger.calls()} == {"killed", "other"})
    owners = unfinished(empty_postgres_url)

    doomed.send_signal(signal.SIGKILL)
    doomed.wait(240)
    before = ledger.calls()
    await until(lambda: len(unfinished(empty_postgres_url)) == 1 or _is_taken_over(owners, empty_postgres_url))
    serve(port)
    async with call(third) as calls:
        found = [await outputs(calls, each) for each in (run, other)]

    calls_made = ledger.calls()
    again = {call: times for call, times in calls_made.items() if times > 1}
    assert found == [[2 * n for n in range(count)]] * 2
    assert calls_made.keys() == {(name, n) for name in ("killed", "other") for n in range(count)}
    assert len(before) < 2 * count
    assert sum(times - 1 for times in again.values()) <= WORKERS * SLOTS


def _is_taken_over(before: Counter[str], url: str) -> bool:
    """Whether no run has the owner any more that some had before."""
    return not before.keys() <= unfinished(url).keys()
