import os
import signal
import subprocess
import sys
import textwrap
from importlib import import_module

import anyio
import pytest

from stepflow.components import Components
from stepflow.errors import BlobNotFoundError
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.protocols import SubRun
from stepflow.records import BlobType, ErrorCode, Failed, RunStatus, Succeeded, blob_id

pytestmark = pytest.mark.anyio

MODULE = """
import os, signal, sys, time
from stepflow.components import Batch, Components, Context
from stepflow.errors import RetryAfter

MARKS = os.environ.get("MARKS")

def mark(text):
    with open(MARKS, "a") as file:
        file.write(f"{text}\\n")

def lifespan():
    mark("enter")
    yield {"pid": os.getpid()}
    mark("leave")

app = Components(lifespan=lifespan)

@app.component("/where", process=True)
def where(input, ctx: Context):
    return [os.getpid(), ctx.state["pid"] == os.getpid()]

@app.component("/square", process=True)
def square(input: int) -> int:
    print("this goes to stderr")
    return input * input

@app.component("/echo", process=True)
def echo(input):
    return input

@app.component("/later", process=True)
async def later(input: int) -> int:
    return input + 1

@app.component("/fail", process=True)
def fail(input):
    raise RetryAfter(20, "busy", data={"x": 1})

@app.component("/die", process=True)
def die(input):
    os._exit(input)

@app.component("/kill", process=True)
def kill(input):
    os.kill(os.getpid(), signal.SIGKILL)

@app.component("/wait", process=True)
def wait(input):
    mark(f"waits {os.getpid()}")
    time.sleep(100)

@app.component("/ask", process=True, max_concurrency=1)
def ask(input, ctx: Context):
    ctx.progress(0.5)
    id = ctx.sync.put_blob({"a": [input]})
    results = ctx.sync.run_flow({"steps": []}, [1, 2], key="k")
    try:
        ctx.sync.get_blob("0" * 64)
    except Exception as error:
        return [ctx.sync.get_blob(id), [r.output for r in results], type(error).__name__]

@app.component("/many", process=True, batch=Batch(size=3, wait_ms=60000))
def many(inputs: list[int]):
    return [ValueError("two") if input == 2 else [os.getpid(), len(inputs)] for input in inputs]

@app.component("/one/{name}", process=True)
def one(input, *, name):
    return name
"""


@pytest.fixture
def marks(tmp_path, monkeypatch):
    path = tmp_path / "marks"
    path.touch()
    monkeypatch.setenv("MARKS", str(path))
    return lambda: path.read_text().split("\n")[:-1]


@pytest.fixture
def module(tmp_path, monkeypatch, marks):
    (tmp_path / "components_for_processes.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "components_for_processes", raising=False)
    return import_module("components_for_processes")


async def test_it_runs_in_a_process_that_is_kept(module, slots, task, marks):
    plugin = FunctionsPlugin(module.app, processes=1)
    async with plugin.open():
        first = await plugin.perform(task("/where"), slots)
        second = await plugin.perform(task("/where"), slots)

    assert first == second == Succeeded([first.output[0], True])
    assert first.output[0] != os.getpid()
    assert marks() == ["enter", "leave"]


async def test_both_colors_give_their_outputs_and_failures(module, slots, task):
    plugin = FunctionsPlugin(module.app, processes=1)
    async with plugin.open():
        assert await plugin.perform(task("/square", 3), slots) == Succeeded(9)
        assert await plugin.perform(task("/later", 3), slots) == Succeeded(4)
        assert await plugin.perform(task("/one/x"), slots) == Succeeded("x")
        refused = await plugin.perform(task("/square", "x"), slots)
        failed = await plugin.perform(task("/fail"), slots)

    assert refused.code is ErrorCode.INVALID_INPUT
    assert (failed.code, failed.message, failed.retry_after_s) == (ErrorCode.RESOURCE_UNAVAILABLE, "busy", 20)


async def test_inputs_and_outputs_may_be_large(module, slots, task):
    text = "x" * 5_000_000
    plugin = FunctionsPlugin(module.app, processes=1)
    async with plugin.open():
        assert await plugin.perform(task("/echo", [text]), slots) == Succeeded([text])


async def test_a_process_that_dies_loses_its_own_call_only(module, slots, task):
    plugin = FunctionsPlugin(module.app, processes=2)
    async with plugin.open():
        died = await plugin.perform(task("/die", 3), slots)
        killed = await plugin.perform(task("/kill"), slots)
        assert await plugin.perform(task("/square", 3), slots) == Succeeded(9)

    assert died == Failed(ErrorCode.RESOURCE_UNAVAILABLE, "the process of /die died with exit code 3")
    assert killed.message == "the process of /kill was killed by signal 9 (SIGKILL)"


async def test_a_process_that_died_idle_is_replaced(module, slots, task):
    plugin = FunctionsPlugin(module.app, processes=1)
    async with plugin.open():
        pid = (await plugin.perform(task("/where"), slots)).output[0]
        os.kill(pid, signal.SIGKILL)
        while _is_alive(pid):
            await anyio.lowlevel.checkpoint()
        assert await plugin.perform(task("/square", 3), slots) == Succeeded(9)


async def test_a_cancelled_call_kills_its_process(module, slots, task, marks):
    plugin = FunctionsPlugin(module.app, processes=1)
    async with plugin.open():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(plugin.perform, task("/wait"), slots)
            while len(marks()) < 2:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        pid = int(marks()[1].removeprefix("waits "))
        assert not _is_alive(pid)
        assert await plugin.perform(task("/square", 3), slots) == Succeeded(9)


async def test_waiting_for_a_process_holds_no_slot(module, slots, task):
    plugin = FunctionsPlugin(module.app, processes=1)
    async with plugin.open(), anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(plugin.perform, task("/square", 3), slots)

    assert slots.waits == ["a process"] * 2


async def test_the_context_asks_the_engine(module, slots, task):
    stored: dict[str, object] = {}

    class Blobs:
        async def put(self, content, type=BlobType.DATA, *, filename=None):
            from stepflow.records import Blob

            stored[blob_id(content)] = Blob(blob_id(content), content, type)
            return blob_id(content)

        async def get(self, id):
            return stored.get(id)

    async def run_flow(task, flow, inputs, **options):
        assert options["key"] == "k"
        await anyio.lowlevel.checkpoint()
        return SubRun("r", RunStatus.COMPLETED, tuple(Succeeded(input) for input in inputs))

    slots.blobs, slots.run_flow = Blobs(), run_flow
    plugin = FunctionsPlugin(module.app, processes=1)
    async with plugin.open():
        outcome = await plugin.perform(task("/ask", 7), slots)

    assert outcome == Succeeded([{"a": [7]}, [1, 2], BlobNotFoundError.__name__])
    assert slots.reports == [0.5]


async def test_a_batch_is_one_call_of_a_process(module, slots, task):
    outcomes = {}
    plugin = FunctionsPlugin(module.app, processes=1)

    async def one(number):
        outcomes[number] = await plugin.perform(task("/many", number, item=number), slots)

    async with plugin.open(), anyio.create_task_group() as tasks:
        for number in (1, 2, 3):
            tasks.start_soon(one, number)

    assert outcomes[1] == outcomes[3]
    assert outcomes[1].output[1] == 3
    assert outcomes[2].message == "two"


async def test_a_lifespan_that_fails_makes_its_calls_unreachable(module, slots, task, tmp_path):
    (tmp_path / "broken_lifespan.py").write_text(
        "from stepflow.components import Components\n"
        "def lifespan():\n    raise OSError('no model')\n    yield\n"
        "app = Components(lifespan=lifespan)\n"
        '@app.component("/a", process=True)\n'
        "def a(input): return 1\n"
    )
    plugin = FunctionsPlugin(import_module("broken_lifespan").app, processes=1)
    async with plugin.open():
        outcome = await plugin.perform(task("/a"), slots)

    assert outcome.code is ErrorCode.UNREACHABLE
    assert "no model" in outcome.message


async def test_a_function_that_was_replaced_in_its_module_is_not_called(module, slots, task):
    app = Components()
    app.component("/square", process=True)(module.square)
    plugin = FunctionsPlugin(app, processes=1)
    original, module.square = module.square, module.one
    async with plugin.open():
        outcome = await plugin.perform(task("/square", 3), slots)
    module.square = original

    assert outcome.code is ErrorCode.UNREACHABLE
    assert "is not the function that was registered" in outcome.message


PARENT = """
import sys, anyio
sys.path.insert(0, {directory!r})
from components_for_processes import app
from stepflow.engine import Engine

FLOW = {{"steps": [{{"id": "w", "component": "/wait"}}], "output": {{"$step": "w"}}}}

async def main():
    async with Engine(app) as engine:
        await engine.run(FLOW)

anyio.run(main, backend={backend!r})
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
async def test_processes_end_with_their_parent(module, tmp_path, marks, anyio_backend, ending):
    script = textwrap.dedent(PARENT.format(directory=str(tmp_path), backend=anyio_backend))
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    try:
        while len(marks()) < 2:
            assert parent.poll() is None
            await anyio.sleep(0.01)
        pid = int(marks()[1].removeprefix("waits "))
        parent.send_signal(ending)
        errors = parent.communicate(timeout=240)[1].decode()
        while _is_alive(pid):
            await anyio.sleep(0.01)
    finally:
        parent.kill()
        parent.wait(240)

    assert "child.py" not in errors


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
