"""Our client and `stepflow submit`, against the reference system's own server and worker."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from stepflow.errors import BlobNotFoundError, FlowInvalidError, RunFailedError, RunNotFoundError
from stepflow.records import BlobType, RunStatus
from stepflow_grpc.client.client import Client
from stepflow_grpc.client.errors import FlowNotFoundError, NotServedError, TooLargeError
from stepflow_grpc.client.records import EventKind

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

CONFIG = """
plugins:
  builtin: {type: builtin}
  workers: {type: grpc, queueName: default}
routes:
  /builtin: [{plugin: builtin}]
  /w: [{plugin: workers}]
"""

WORKER = """
import asyncio, sys
from pathlib import Path
from stepflow_py.worker import StepflowServer
from stepflow_py.worker.grpc_worker import run_grpc_worker

server = StepflowServer()


@server.component
def double(n: int) -> int:
    if n < 0:
        raise ValueError(f"{n} is negative")
    return n * 2


@server.component
async def gate(n: int) -> int:
    while not Path(f"open-{n}").exists():
        await asyncio.sleep(0.01)
    return n


asyncio.run(run_grpc_worker(server, sys.argv[1], "default"))
"""


def flow(component: str) -> dict[str, Any]:
    step = {"id": "s", "component": component, "input": {"$input": "$"}}
    return {"name": component[1:], "steps": [step], "output": {"$step": "s"}}


DOUBLE, GATE = flow("/w/double"), flow("/w/gate")
NOBODY = "0199aaaa-0000-7000-8000-000000000000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yml").write_text(CONFIG)
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "flow.json").write_text(json.dumps(DOUBLE))
    return tmp_path


@pytest.fixture
def address(folder: Path, upstream_python: Path) -> Iterator[str]:
    """Of a server of the reference system with one worker."""
    where = [upstream_python, "-c", "import stepflow_orchestrator as s; print(s.__path__[0])"]
    package = Path(subprocess.run(where, capture_output=True, text=True, check=True, timeout=240).stdout.strip())
    line = [package / "bin/stepflow-server", "--port", "0", "--config", "./config.yml", "--log-level", "error"]
    processes = [subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)]
    try:
        assert processes[0].stdout is not None
        told = next(found for found in processes[0].stdout if found.startswith("{"))
        address = f"127.0.0.1:{json.loads(told)['port']}"
        worker = [upstream_python, "worker.py", address]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "text": True}
        environment = {**os.environ, "STEPFLOW_BLOB_URL": address}
        processes.append(subprocess.Popen(worker, cwd=folder, env=environment, **quiet))  # type: ignore[call-overload]
        yield address
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=60)


@pytest.fixture
async def client(address: str) -> AsyncIterator[Client]:
    """A client of that server, once its worker's components are known."""
    async with Client(address) as made:
        with anyio.fail_after(60):
            while not any(each.plugin == "workers" for each in await made.list_components()):
                await anyio.sleep(0.1)
        yield made


async def test_flows_are_stored_checked_and_told_again(client: Client) -> None:
    stored = await client.store_flow(DOUBLE)
    checked = await client.store_flow(DOUBLE, dry_run=True)

    assert (stored.is_stored, checked.is_stored) == (True, False)
    assert (await client.get_flow(stored.id)).name == "w/double"
    assert await client.variables(stored.id) == ()
    with pytest.raises(FlowInvalidError, match="undefined step 'x'"):
        await client.store_flow({**DOUBLE, "output": {"$step": "x"}})
    with pytest.raises(FlowNotFoundError):
        await client.get_flow("a" * 64)


async def test_a_run_gives_its_output_or_its_failure(client: Client) -> None:
    assert await client.run(DOUBLE, 21) == 42
    with pytest.raises(RunFailedError, match="-1 is negative") as raised:
        await client.run(DOUBLE, -1)

    assert raised.value.step == "s"
    assert (await client.get(raised.value.run_id)).status is RunStatus.FAILED


async def test_a_batch_gives_its_results_in_order_with_what_happened(client: Client) -> None:
    run = await client.submit(DOUBLE, range(300), max_concurrency=50)

    results = [result.output async for result in run.results()]
    record = await run.wait()
    events = [event async for event in run.events()]

    assert results == [2 * n for n in range(300)]
    assert (record.status, record.total, record.succeeded) == (RunStatus.COMPLETED, 300, 300)
    assert events[0].kind is EventKind.RUN_CREATED
    assert events[-1].kind is EventKind.RUN_COMPLETED
    assert sum(event.kind is EventKind.STEP_COMPLETED for event in events) == 300
    assert len(await run.steps()) == 300
    assert (await run.step("s", item=7)).output == 14


@pytest.mark.parametrize("order", ["item", "completion"])
async def test_results_come_when_the_run_has_ended_since_it_tells_none_before(
    client: Client, folder: Path, order: str
) -> None:
    run = await client.submit(GATE, [0, 1, 2])
    status = (await run.record()).status
    for number in range(3):
        (folder / f"open-{number}").touch()

    with anyio.fail_after(60):
        found = [result.output async for result in run.results(order=order)]

    assert status is RunStatus.RUNNING
    assert sorted(found) == [0, 1, 2]


async def test_runs_are_listed_and_found(client: Client) -> None:
    run = await client.submit(DOUBLE, [1])
    await run.wait()

    assert await client.find_run("last") == run.id
    assert [record.id for record in await client.list_runs(flow_name="w/double", limit=1)] == [run.id]
    with pytest.raises(RunNotFoundError):
        await client.get(NOBODY)


async def test_blobs_are_kept(client: Client) -> None:
    data = await client.put_json({"a": [1, 2.5]})
    raw = await client.put_blob(b"\x00\xff", BlobType.BINARY)

    assert await client.get_json(data) == {"a": [1, 2.5]}
    assert (await client.get_blob(raw)).content == b"\x00\xff"
    with pytest.raises(BlobNotFoundError):
        await client.get_blob("a" * 64)


async def test_what_it_does_not_take_is_refused_by_name(client: Client) -> None:
    with pytest.raises(TooLargeError, match=r"the batch of 5,000 items has 4\.\d MiB, and the server takes 4.0 MiB"):
        await client.submit(DOUBLE, ("x" * 1_000 for _ in range(5_000)))
    with pytest.raises(NotServedError, match="takes no 'key'"):
        await client.submit(DOUBLE, [1], key="nightly")


async def test_the_command_runs_a_batch_there(client: Client, address: str, folder: Path) -> None:
    (folder / "inputs.jsonl").write_text("1\n-2\n3\n")
    code = "from stepflow.cli.main import main; main()"
    line = [sys.executable, "-c", code, "submit", "flow.json", "--url", address, "--inputs", "inputs.jsonl"]

    done = await anyio.run_process([*line, "--output", "out.jsonl"], cwd=folder, check=False)

    assert done.returncode == 3
    results = [json.loads(text) for text in (folder / "out.jsonl").read_text().splitlines()]
    assert [result.get("result") for result in results] == [2, None, 6]
    assert 'item 1 failed at step "s": COMPONENT_FAILED: -2 is negative' in done.stderr.decode()
