"""Our worker, against the reference system's own server.

What a worker has to do there is a list of 26 points. What it says call by call is held in
`tests/stepflow_grpc/worker/test_v1.py` too, by a server that follows a script; here the reference's server judges:
1, 4–6 in `…lists…`, 2 in `…no_queue…`, 3 in `…every_slot_is_busy…`, 7, 11, 13 and 19 in `…batch…`, 8 and 24 in
`…holds_no_more…`, 9, 15, 16 and 23 in `…restart…`, 10 in `…blocks…`, 12 in `…delivered_again…`, 14 in `…null…`, 17 in
`…codes…`, 18 in `…scheme…`, 20 in `…path…`, 21 in `…blobs…`, 22 in `…too_large…`, 25 and 26 in `…environment…`.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_port

import stepflow
from stepflow.components import Components
from stepflow.context import Context
from stepflow.records import ErrorCode, ItemResult
from stepflow_grpc.client.client import Client
from stepflow_grpc.worker.worker import Worker

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

CONFIG = """
plugins:
  builtin: {type: builtin}
  workers: {type: grpc, queueName: python, queueTimeoutSecs: QUEUE_TIMEOUT}
  OTHERS
routes:
  /builtin: [{plugin: builtin}]
  /late: [{plugin: workers, queueName: late}]
  /w: [{plugin: workers}]
retry: {backoff: {type: constant, delayMs: 200}}
STORE
"""
SQLITE = 'storageConfig: {type: sqlite, databaseUrl: "sqlite:state.db?mode=rwc"}'

COMPONENTS = """
import asyncio
from pathlib import Path
import stepflow

app = stepflow.Components()


@app.component("/gate")
async def gate(n: int) -> int:
    Path("begun").touch()
    while not Path("open").exists():
        await asyncio.sleep(0.01)
    return n
"""


class Reference:
    """The reference's server as a process."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"

    def start(self, *, store: str = "", queue_timeout: int = 30, others: str = "", **environment: str) -> None:
        config = CONFIG.replace("STORE", store).replace("QUEUE_TIMEOUT", str(queue_timeout)).replace("OTHERS", others)
        (self._folder / "config.yml").write_text(config)
        line = [self._binary, "--port", str(self.port), "--config", "./config.yml", "--log-level", "error"]
        env = {**os.environ, **environment}
        self._process = subprocess.Popen(
            line, cwd=self._folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )

        self._await_port()

    def _await_port(self) -> None:
        for _ in range(400):
            with socket.socket() as trying:
                if trying.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the server did not begin")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=60)
            self._process = None


@pytest.fixture
def reference(tmp_path: Path, upstream_python: Path) -> Iterator[Reference]:
    where = [upstream_python, "-c", "import stepflow_orchestrator as s; print(s.__path__[0])"]
    package = Path(subprocess.run(where, capture_output=True, text=True, check=True, timeout=240).stdout.strip())
    made = Reference(package / "bin/stepflow-server", tmp_path)
    yield made
    made.kill()


def flow(*components: str) -> dict[str, Any]:
    steps: list[Any] = []
    source: Any = {"$input": "$"}
    for number, component in enumerate(components):
        steps.append({"id": f"s{number}", "component": component, "input": source})
        source = {"$step": f"s{number}"}
    return {"name": "f", "steps": steps, "output": source}


async def eventually(condition: Callable[[], object], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def working(app: Components, reference: Reference, **options: Any) -> AsyncIterator[Worker]:
    async with Worker(app, url=reference.address, **{"grace_s": 5.0, **options}) as worker:
        async with asyncio.timeout(60):
            await worker.ready()
        yield worker


async def results(reference: Reference, document: Any, inputs: list[Any], **options: Any) -> list[ItemResult]:
    async with Client(reference.address) as client, asyncio.timeout(120):
        run = await client.submit(document, inputs, **options)
        return [result async for result in run.results()]


async def outputs(reference: Reference, document: Any, inputs: list[Any], **options: Any) -> list[Any]:
    found = await results(reference, document, inputs, **options)
    assert [result.error for result in found] == [None] * len(inputs)
    return [result.output for result in found]


def simple() -> Components:
    app = Components()
    app.component("/double")(lambda n: n * 2)
    return app


async def test_a_batch_goes_through_the_worker(reference: Reference) -> None:
    app = Components()

    @app.component("/double")
    async def double(n: int) -> int:
        return n * 2

    @app.component("/half")
    def half(n: float) -> float:
        return n / 2

    reference.start()
    async with working(app, reference):
        found = await outputs(reference, flow("/w/double", "/w/half"), [1.0, *range(200)])

    assert found == [1, *range(200)]


async def test_the_worker_lists_its_components_with_their_schemas(reference: Reference) -> None:
    app = Components()

    @app.component("/typed/{name}", id="typed")
    def typed(n: int, name: str) -> str:
        """Says a number."""
        return f"{name} {n}"

    reference.start()
    async with working(app, reference), Client(reference.address) as client:
        await outputs(reference, flow("/w/typed/a"), [1])
        listed = await client.list_components()
        await outputs(reference, flow("/w/typed/b"), [1])

    (found,) = [each for each in listed if each.info.id == "typed"]
    assert found.info.description == "Says a number."
    assert found.info.input_schema == {"type": "integer"}


async def test_a_worker_waits_where_there_is_no_queue_yet(reference: Reference) -> None:
    app = simple()
    async with Worker(app, url=reference.address, queue="late", grace_s=1.0), working_later(reference, app):
        assert await outputs(reference, flow("/late/double"), [1, 2]) == [2, 4]


@asynccontextmanager
async def working_later(reference: Reference, app: Components) -> AsyncIterator[None]:
    """A server that comes up now, and a worker of the default queue, which alone is asked for components."""
    reference.start()
    async with working(app, reference):
        yield


async def test_questions_are_answered_while_every_slot_is_busy(reference: Reference) -> None:
    app, begun, go_on = Components(), asyncio.Event(), asyncio.Event()

    @app.component("/gate")
    async def gate(n: int) -> int:
        begun.set()
        await go_on.wait()
        return n

    reference.start(others="others: {type: grpc, queueName: others}")
    async with working(app, reference, max_concurrent=1), asyncio.timeout(120):
        async with working(simple(), reference, queue="others"):
            busy = asyncio.create_task(outputs(reference, flow("/w/gate"), [1]))
            await begun.wait()
        app.component("/new")(lambda n: n + 1)
        async with working(simple(), reference, queue="others"):  # each stream that opens makes the server ask all
            await asyncio.sleep(1.0)
            new_one = asyncio.create_task(outputs(reference, flow("/w/new"), [1]))
            await asyncio.sleep(1.0)
            go_on.set()
            found = await asyncio.gather(busy, new_one)

    assert found == [[1], [2]]


async def test_a_worker_holds_no_more_than_it_can_do_soon(reference: Reference) -> None:
    stuck, free, go_on = Components(), Components(), asyncio.Event()
    done: list[str] = []

    @stuck.component("/do")
    async def slow(n: int) -> int:
        await go_on.wait()
        return n

    @free.component("/do")
    async def quick(n: int) -> int:
        done.append("quick")
        return n

    reference.start(queue_timeout=3)
    async with working(stuck, reference, max_concurrent=1), working(free, reference, max_concurrent=1):
        asking = asyncio.create_task(outputs(reference, flow("/w/do"), list(range(20)), max_concurrency=20))
        await eventually(lambda: len(done) >= 17)  # one is at work, and one or two are on their way
        go_on.set()
        found = await asking

    assert found == list(range(20))


async def test_a_task_goes_on_over_a_restart_of_the_server(reference: Reference) -> None:
    app, calls, begun, go_on = Components(), [], asyncio.Event(), asyncio.Event()

    @app.component("/gate")
    async def gate(n: int) -> int:
        calls.append(n)
        begun.set()
        await go_on.wait()
        return n + 1

    reference.start(store=SQLITE)
    async with working(app, reference) as worker, Client(reference.address) as client, asyncio.timeout(120):
        run = await client.submit(flow("/w/gate"), [1])
        await begun.wait()
        reference.kill()
        reference.start(store=SQLITE)
        await eventually(lambda: worker.is_ready)
        go_on.set()
        found = [result.output async for result in run.results()]

    assert found == [2]
    assert calls == [1]


async def test_a_component_that_blocks_is_not_done_twice(reference: Reference) -> None:
    app, calls = Components(), []

    @app.component("/block")
    async def block(n: int) -> int:
        calls.append(n)
        time.sleep(13)  # noqa: ASYNC251
        return n

    reference.start()
    async with working(app, reference):
        found = await outputs(reference, flow("/w/block"), [1])

    assert found == [1]
    assert calls == [1]


async def test_a_task_that_is_delivered_again_is_not_done_beside_itself(reference: Reference) -> None:
    app, now, most = Components(), {}, 0

    @app.component("/slow")
    async def slow(n: int) -> int:
        nonlocal most
        now[n] = now.get(n, 0) + 1
        most = max(most, now[n])
        await asyncio.sleep(1.5)
        now[n] -= 1
        return n

    reference.start(queue_timeout=1)
    async with working(app, reference, max_concurrent=2):
        found = await outputs(reference, flow("/w/slow"), list(range(4)))

    assert found == list(range(4))
    assert most == 1


async def test_null_comes_back_as_null(reference: Reference) -> None:
    app = Components()
    app.component("/nothing")(lambda n: None)
    reference.start()
    async with working(app, reference):
        found = await results(reference, flow("/w/nothing"), [1])

    assert [(result.ok, result.output) for result in found] == [(True, None)]


async def test_failures_come_with_their_codes(reference: Reference) -> None:
    app = Components()
    raised = {
        "value": (ValueError("bad"), ErrorCode.COMPONENT_FAILED),
        "type": (TypeError("no"), ErrorCode.INVALID_INPUT),
        "resource": (OSError("gone"), ErrorCode.RESOURCE_UNAVAILABLE),
        "input": (stepflow.InvalidInputError("no"), ErrorCode.INVALID_INPUT),
    }

    @app.component("/fail")
    async def fail(name: str) -> None:
        raise raised[name][0]

    reference.start()
    async with working(app, reference):
        found = await results(reference, flow("/w/fail"), list(raised))

    assert [result.error and result.error.code for result in found] == [code for _, code in raised.values()]


async def test_the_address_to_call_back_may_have_a_scheme(reference: Reference) -> None:
    reference.start(STEPFLOW_ORCHESTRATOR_URL=f"http://{reference.address}")
    async with working(simple(), reference):
        assert await outputs(reference, flow("/w/double"), [4]) == [8]


async def test_parameters_of_the_path_arrive_as_they_were_written(reference: Reference) -> None:
    app = Components()

    @app.component("/say/{*rest}", id="say")
    def say(n: int, rest: str) -> list[Any]:
        return [n, rest]

    reference.start()
    async with working(app, reference):
        assert await outputs(reference, flow("/w/say/a%20b/c"), [1]) == [[1, "a%20b/c"]]


async def test_blobs_and_sub_runs_go_through_the_server(reference: Reference) -> None:
    app = Components()
    app.component("/double")(lambda n: n * 2)

    @app.component("/outer")
    async def outer(n: int, ctx: Context) -> list[Any]:
        id = await ctx.put_blob({"n": n})
        binary = await ctx.put_blob(b"\x00\xff")
        found = await ctx.run_flow(flow("/w/double"), [n, n + 1])
        return [await ctx.get_blob(id), len(await ctx.get_blob(binary)), [result.output for result in found]]

    reference.start()
    async with working(app, reference, max_concurrent=1, blob_url=reference.address):
        assert await outputs(reference, flow("/w/outer"), [5]) == [[{"n": 5}, 2, [10, 12]]]


async def test_an_output_that_is_too_large_fails_with_what_to_do(reference: Reference) -> None:
    app = Components()
    app.component("/large")(lambda n: {"text": "x" * n})
    reference.start()
    async with working(app, reference):
        small, large = await results(reference, flow("/w/large"), [1_000_000, 5_000_000])

    assert small.ok
    assert large.error is not None
    assert "ctx.put_blob" in large.error.message


async def test_a_blob_that_is_too_large_for_a_message_goes_there_all_the_same(reference: Reference) -> None:
    app = Components()

    @app.component("/large")
    async def large(n: int, ctx: Context) -> list[int]:
        binary = await ctx.put_blob(b"x" * n, filename="x.bin")
        data = await ctx.put_blob({"text": "x" * n})
        return [len(await ctx.get_blob(binary)), len((await ctx.get_blob(data))["text"])]

    reference.start()
    async with working(app, reference, blob_url=reference.address):
        assert await outputs(reference, flow("/w/large"), [6_000_000]) == [[6_000_000, 6_000_000]]


async def test_the_environment_is_enough_and_a_signal_ends_it(reference: Reference, tmp_path: Path) -> None:
    (tmp_path / "components.py").write_text(COMPONENTS)
    reference.start()
    env = {
        **os.environ,
        "STEPFLOW_TRANSPORT": "grpc",
        "STEPFLOW_TASKS_URL": reference.address,
        "STEPFLOW_QUEUE_NAME": "python",
        "STEPFLOW_BLOB_URL": reference.address,
        "STEPFLOW_APP": "components:app",
    }
    line = [sys.executable, "-c", "from stepflow.cli.main import main; main()", "worker"]
    workers = [
        subprocess.Popen(line, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    try:
        asking = asyncio.create_task(outputs(reference, flow("/w/gate"), [7]))
        await eventually((tmp_path / "begun").exists)
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        await eventually(lambda: [worker.poll() for worker in workers].count(None) == 1)  # the idle one
        (tmp_path / "open").touch()
        found = await asking
        await eventually(lambda: None not in [worker.poll() for worker in workers])
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(timeout=60)

    assert found == [7]
    assert [worker.returncode for worker in workers] == [0, 0]
