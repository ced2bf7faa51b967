"""`stepflow worker` as a process: it serves by flags or by its environment alone, and ends as it is told."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stepflow.engine import Engine
from stepflow_grpc.server import Server
from stepflow_grpc.worker import command as module

pytestmark = pytest.mark.anyio

COMPONENTS = """
import asyncio, os, time
from pathlib import Path
import stepflow

app = stepflow.Components()


@app.component("/double")
def double(n: int) -> int:
    return n * 2


@app.component("/gate")
async def gate(n: int) -> int:
    with Path("begun").open("a") as begun:
        begun.write(f"{n}\\n")
    while not Path("open").exists():
        await asyncio.sleep(0.01)
    return n
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "components.py").write_text(COMPONENTS)
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("STEPFLOW_"):
            monkeypatch.delenv(name)
    return tmp_path


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def worker(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        code = "from stepflow.cli.main import main; main()"
        pipe = subprocess.PIPE
        line = [sys.executable, "-c", code, "worker", *arguments]
        process = subprocess.Popen(line, env={**os.environ, **environment}, stdout=pipe, stderr=pipe, text=True)
        processes.append(process)
        return process

    yield worker
    for process in processes:
        process.kill()
        process.communicate(timeout=60)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def said(process: "subprocess.Popen[str]", words: str) -> str:
    """The next line on stderr that has these words."""
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    async with asyncio.timeout(60):
        return await asyncio.to_thread(lambda: next(line for line in lines if words in line))


async def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    await eventually(lambda: process.poll() is not None)
    assert process.stderr is not None
    return process.returncode, process.stderr.read()


async def test_the_environment_alone_is_enough(server: Server, start: Start, outputs: Any) -> None:
    address = f"127.0.0.1:{server.port}"
    start(
        STEPFLOW_APP="components:app",
        STEPFLOW_TRANSPORT="grpc",
        STEPFLOW_TASKS_URL=address,
        STEPFLOW_QUEUE_NAME="gpu",
        STEPFLOW_BLOB_URL=address,
        STEPFLOW_MAX_CONCURRENT="2",
        STEPFLOW_BLOB_THRESHOLD_BYTES="0",
        STEPFLOW_SHUTDOWN_GRACE_SECS="5",
        STEPFLOW_LOG_LEVEL="info",
    )

    assert await outputs(["/gpu/double"], [1, 2, 3]) == [2, 4, 6]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_worker_ends_when_told(server: Server, start: Start, folder: Path, number: int) -> None:
    url = f"127.0.0.1:{server.port}"
    process = start("components:app", "--url", url, "--ready-file", "ready")
    await eventually((folder / "ready").exists)
    await said(process, f"connected to {url}")
    process.send_signal(number)
    code, err = await ended(process)

    assert code == 0
    assert "stopping" in err
    assert not (folder / "ready").exists()


async def test_a_worker_that_is_told_to_end_finishes_its_task_and_takes_no_other(
    engine: Engine, server: Server, start: Start, folder: Path, line: Any
) -> None:
    process = start("components:app", "--url", f"127.0.0.1:{server.port}", "--max-concurrent", "1")
    run = await engine.submit(line("/w/gate"), [0, 1])
    await eventually((folder / "begun").exists)
    process.send_signal(signal.SIGTERM)
    told = await said(process, "stopping")
    (folder / "open").touch()
    code, _ = await ended(process)
    record = await run.record()
    await engine.cancel(run.id)

    assert code == 0
    assert "1 at work" in told
    assert (folder / "begun").read_text().splitlines() == ["0"]
    assert record.succeeded == 1


@pytest.mark.slow
async def test_a_second_signal_ends_at_once(
    server: Server, engine: Engine, start: Start, folder: Path, line: Any
) -> None:
    process = start("components:app", "--url", f"127.0.0.1:{server.port}")
    run = await engine.submit(line("/w/gate"), [0])
    await eventually((folder / "begun").exists)
    process.send_signal(signal.SIGTERM)
    await said(process, "stopping")
    process.send_signal(signal.SIGTERM)
    code, _ = await ended(process)
    await engine.cancel(run.id)

    assert code == 130


LOADING = """
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
import stepflow


@asynccontextmanager
async def load():
    Path("loading").touch()
    await asyncio.Event().wait()
    yield


app = stepflow.Components(lifespan=load)
app.component("/x")(lambda n: n)
"""


@pytest.mark.slow
async def test_a_worker_that_still_loads_ends_when_told(start: Start, folder: Path) -> None:
    (folder / "loading_components.py").write_text(LOADING)
    process = start("loading_components:app", "--url", "127.0.0.1:1")
    await eventually((folder / "loading").exists)
    process.send_signal(signal.SIGTERM)
    code, err = await ended(process)

    assert code == 0
    assert "stopping" in err


@pytest.mark.slow
async def test_after_the_grace_a_task_is_another_worker_s(
    engine: Engine, server: Server, start: Start, folder: Path, line: Any
) -> None:
    url = f"127.0.0.1:{server.port}"
    first = start("components:app", "--url", url, "--grace", "100ms")
    run = await engine.submit(line("/w/gate"), [7])
    await eventually((folder / "begun").exists)
    first.send_signal(signal.SIGTERM)
    code, _ = await ended(first)
    (folder / "open").touch()
    start("components:app", "--url", url)
    async with asyncio.timeout(60):
        (result,) = [result async for result in run.results()]

    assert code == 0
    assert result.output == 7


def asked(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


@pytest.mark.slow
async def test_a_port_tells_probes_whether_the_worker_is_ready(engine: Engine, start: Start, folder: Path) -> None:
    async with Server(engine, port=0) as server:
        process = start("components:app", "--url", f"127.0.0.1:{server.port}", "--health-port", "0")
        assert process.stderr is not None
        first = await asyncio.to_thread(process.stderr.readline)
        port = int(first.rpartition(" ")[2])
        url = f"http://127.0.0.1:{port}/ready"
        async with asyncio.timeout(60):
            while (ready := await asyncio.to_thread(asked, url))[0] != 200:
                await asyncio.sleep(0.02)
    async with asyncio.timeout(60):
        while (unready := await asyncio.to_thread(asked, url))[0] != 503:
            await asyncio.sleep(0.02)
    healthy = await asyncio.to_thread(asked, f"http://127.0.0.1:{port}/health")

    assert ready == (200, {"ready": True})
    assert unready == (503, {"ready": False})
    assert healthy[0] == 200


@pytest.mark.slow
async def test_a_registry_that_is_not_there_is_told_with_what_was_meant(start: Start) -> None:
    code, err = await ended(start("componets:app"))
    unnamed, usage = await ended(start())

    assert code == 1
    assert 'did you mean "components:app"' in err
    assert unnamed == 2
    assert "STEPFLOW_APP" in usage


@pytest.mark.parametrize(("given", "taken"), [("7", 7), ("auto", "auto")])
def test_slots_are_a_number_or_found_out(monkeypatch: pytest.MonkeyPatch, given: str, taken: object) -> None:
    made: dict[str, Any] = {}

    def make(registry: object, **options: Any) -> None:
        made.update(options)
        raise AssertionError("that is enough")

    monkeypatch.setattr(module, "Worker", make)
    monkeypatch.setattr(module, "_registry", lambda *given, **options: None)

    CliRunner().invoke(module.command, ["components:app", "--max-concurrent", given])

    assert made["max_concurrent"] == taken


@pytest.mark.parametrize(
    ("flag", "given", "words"),
    [
        ("--queue", "", "'--queue' / '--queue-name' / '-q': it is empty"),
        ("--queue", "  ", "it is empty"),
        ("--worker-id", "", "it is empty"),
        ("--ready-file", "", "it is empty"),
        ("--health-host", "", "it is empty"),
        ("--url", "", "write host:port, or https://host:port for TLS"),
        ("--url", "ftp://far", "write host:port, or https://host:port for TLS"),
        ("--blob-url", "far:x", "write host:port, or https://host:port for TLS"),
    ],
)
def test_what_names_nothing_is_refused_before_anything_is_loaded(flag: str, given: str, words: str) -> None:
    refused = CliRunner().invoke(module.command, ["no_such_module:app", flag, given])

    assert refused.exit_code == 2
    assert words in refused.output


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STEPFLOW_QUEUE_NAME", "STEPFLOW_TASKS_URL", "STEPFLOW_BLOB_URL", "STEPFLOW_WORKER_ID"):
        monkeypatch.setenv(name, "")

    begun = CliRunner().invoke(module.command, ["no_such_module:app"])

    assert begun.exit_code == 1
    assert "no_such_module" in str(begun.exception)


@pytest.mark.parametrize("given", ["0", "-1", "few", "1.5"])
def test_slots_that_are_neither_are_refused(given: str) -> None:
    refused = CliRunner().invoke(module.command, ["components:app", "--max-concurrent", given])

    assert refused.exit_code == 2
    assert "write 1 or more, or auto" in refused.output
