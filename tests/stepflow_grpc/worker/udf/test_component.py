"""Functions that come as text, called by the steps of an engine."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from stepflow.clock import SystemClock
from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import ConfigError
from stepflow.records import BlobType, ErrorCode, ItemResult
from stepflow_grpc.worker.udf.component import Udf
from stepflow_grpc.worker.udf.records import UdfLimits

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0
FLOW = {"steps": [{"id": "u", "component": "/udf", "input": {"$input": "$"}}], "output": {"$step": "u"}}
LIMITS = UdfLimits(wall_s=30, cpu_s=1, memory_bytes=1024**3)


class Bench:
    """An engine whose one component is `udf`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def blob(self, content: Any) -> str:
        return await self.engine.backend.blobs.put(msgspec.json.encode(content), BlobType.DATA)

    async def run(self, blob_id: str, *inputs: Any) -> list[ItemResult]:
        run = await self.engine.submit(FLOW, [{"blob_id": blob_id, "input": each} for each in inputs])
        with anyio.fail_after(PATIENCE_S):
            return [result async for result in run.results()]

    async def call(self, code: str, *inputs: Any, schema: Any = None) -> list[ItemResult]:
        return await self.run(await self.blob({"code": code, "input_schema": schema or {"type": "object"}}), *inputs)

    async def output(self, code: str, input: Any) -> Any:
        (result,) = await self.call(code, input)
        assert result.error is None, result.error
        return result.output

    async def failure(self, code: str, input: Any = None, schema: Any = None) -> str:
        (result,) = await self.call(code, input or {}, schema=schema)
        assert result.error is not None
        assert result.error.code is ErrorCode.COMPONENT_FAILED
        return result.error.message


@pytest.fixture
def limits() -> UdfLimits:
    return LIMITS


@pytest.fixture
async def bench(limits: UdfLimits) -> AsyncIterator[Bench]:
    async with Udf(limits, SystemClock()) as udf, Engine(udf.added_to(Components())) as engine:
        yield Bench(engine)


async def test_a_function_is_called_with_inputs_that_fit_its_schema(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

    good, bad, none = await bench.call("input.a + 1", {"a": 1}, {"a": "x"}, {}, schema=schema)

    assert good.output == 2
    assert bad.error is not None
    assert bad.error.code is ErrorCode.COMPONENT_FAILED
    assert bad.error.message.startswith("Input validation failed: $.a: ")
    assert none.error is not None
    assert none.error.message.startswith("Input validation failed: $: ")


async def test_a_function_is_compiled_once_and_keeps_its_module(bench: Bench) -> None:
    code = "_calls = []\ndef f(input):\n    _calls.append(1)\n    return len(_calls)"
    blob_id = await bench.blob({"code": code, "input_schema": {}})

    outputs = [(await bench.run(blob_id, {}))[0].output for _ in range(3)]

    assert outputs == [1, 2, 3]


async def test_failures_say_what_is_wrong(bench: Bench) -> None:
    raised = await bench.failure("def f(input):\n    raise KeyError('x')")
    compiled = await bench.failure("def one(input): ...\ndef two(input): ...")
    schema = await bench.failure("input", schema={"type": "nonsense"})
    no_json = await bench.failure("def f(input): return {'a': object()}")
    left = await bench.failure("import sys\ndef f(input): sys.exit('enough')")
    missing = [await bench.run(blob, {}) for blob in ("0" * 64, await bench.blob({"input_schema": {}}))]
    missing += [await bench.run(await bench.blob(content), {}) for content in ({"code": "1"}, [1])]
    messages = [results[0].error.message for results in missing if results[0].error is not None]

    assert raised == "Function execution failed: 'x'"
    assert compiled.startswith("Code compilation failed: it defines several public functions (one, two)")
    assert "has an 'input_schema' that can't be used" in schema
    assert no_json.startswith("Function execution failed: its output is no JSON: $.a")
    assert left == "Function execution failed: it called exit(enough)"
    assert messages[0].startswith(f"Failed to retrieve blob {'0' * 64}")
    assert messages[1].endswith("must contain 'code' field")
    assert messages[2].endswith("must contain 'input_schema' field")
    assert "must be an object" in messages[3]


async def test_the_lines_of_the_function_are_told(bench: Bench) -> None:
    (result,) = await bench.call("def _deep(x):\n    return 1 / x\ndef f(input):\n    return _deep(0)", {})

    assert result.error is not None
    assert isinstance(result.error.data, dict)
    details = result.error.data["details"]
    assert isinstance(details, dict)
    assert details["exception_type"] == "ZeroDivisionError"
    assert "return 1 / x" in str(details["traceback"])


async def test_a_function_sees_nothing_of_the_environment_and_has_a_place_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFLOW_TOKEN", "s3cret")
    code = """
import os, pathlib, tempfile
def f(input):
    print("this goes to stderr")
    pathlib.Path("mine").write_text("x")
    files = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
    return [dict(os.environ), os.getcwd(), tempfile.gettempdir(), len(files)]
"""

    environment, place, temporary, files = await bench.output(code, {})

    assert "s3cret" not in str(environment)
    assert "STEPFLOW_TOKEN" not in environment
    assert place == temporary == environment["HOME"]
    assert Path(place).exists()
    assert files < 20


async def test_a_function_may_ask_its_context(bench: Bench) -> None:
    code = """
async def f(input, context):
    binary = await context.put_blob(b"\\x00\\xff", "binary")
    value = await context.put_blob({"a": [1]})
    flow = {"steps": [], "output": {"$input": "$.n"}}
    known = [await context.get_blob(binary) == b"\\x00\\xff", await context.get_blob(value)]
    try:
        await context.get_blob("0" * 64)
    except RuntimeError as error:
        known.append(str(error).startswith("get_blob: "))
    return [*known, await context.evaluate_flow(flow, {"n": 7}), context.step_id, context.attempt, bool(context.run_id)]
"""

    output = await bench.output(code, {})

    assert output == [True, {"a": [1]}, True, 7, "u", 1, True]


@pytest.mark.slow
async def test_a_function_that_uses_too_much_is_ended_and_the_next_one_is_called(bench: Bench) -> None:
    spun = await bench.failure("def f(input):\n    while True: pass")
    matched = await bench.failure("def f(input):\n    re.match('(a+)+$', 'a' * 60 + 'b')")
    filled = await bench.failure("def f(input):\n    return len(bytearray(4 * 1024**3))")
    wrote = await bench.failure("def f(input):\n    open('big', 'wb').truncate(10**12)")
    died = await bench.failure("import os\ndef f(input): os.kill(os.getpid(), 9)")
    after = await bench.output("input.a", {"a": 1})

    assert spun == matched == "Function execution failed: it used more than 1 s of processor time"
    assert filled == "Function execution failed: it needs more than 1,024 MiB of memory"
    assert wrote.startswith("Function execution failed: [Errno 27]")
    assert died == f"Function execution failed: its process was killed by signal {int(signal.SIGKILL)}"
    assert after == 1


@pytest.mark.slow
@pytest.mark.parametrize("limits", [UdfLimits(wall_s=1)])
async def test_a_function_that_takes_too_long_is_ended_with_what_it_started(bench: Bench, tmp_path: Path) -> None:
    code = """
import subprocess, time
def f(input):
    started = subprocess.Popen(["sleep", "1000"])
    open(input["place"], "w").write(str(started.pid))
    time.sleep(1000)
"""
    message = await bench.failure(code, {"place": str(tmp_path / "pid")})

    assert message == "Function execution failed: it took longer than 1 s"
    pid = int((tmp_path / "pid").read_text())
    with anyio.fail_after(PATIENCE_S):
        while is_alive(pid):
            await anyio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
async def test_a_function_that_nobody_waits_for_any_more_is_ended(bench: Bench, tmp_path: Path) -> None:
    code = "import os, time\ndef f(input):\n    open(input.place, 'w').write(str(os.getpid()))\n    time.sleep(1000)"
    blob_id = await bench.blob({"code": code, "input_schema": {}})
    place = tmp_path / "pid"

    run = await bench.engine.submit(FLOW, [{"blob_id": blob_id, "input": {"place": str(place)}}])
    with anyio.fail_after(PATIENCE_S):
        while not place.exists() or not place.read_text():
            await anyio.sleep(0.01)
        await bench.engine.cancel(run.id)
        while is_alive(int(place.read_text())):
            await anyio.sleep(0.01)

    assert (await bench.output("input.a", {"a": 1})) == 1


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["nonsense", '{"type":"ready"}', '{"type":"ask","name":"__class__","arguments":{}}'])
async def test_a_function_that_writes_into_the_pipe_harms_only_itself(bench: Bench, answer: str) -> None:
    code = f"""
import os
def f(input):
    for file in range(3, 20):
        try:
            os.write(file, {answer!r}.encode() + b"\\n")
        except OSError:
            pass
    return 1
"""

    (result,) = await bench.call(code, {})
    after = await bench.output("input.a", {"a": 1})

    assert result.output == 1 or result.error is not None
    assert after == 1


@pytest.mark.slow
async def test_processes_and_their_places_go_with_the_component(limits: UdfLimits) -> None:
    async with Udf(limits, SystemClock()) as udf, Engine(udf.added_to(Components())) as engine:
        place, pid = await Bench(engine).output("import os\ndef f(input): return [os.getcwd(), os.getpid()]", {})

        assert Path(place).exists()
    assert not Path(place).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_components_of_the_registry_stay_as_they_are() -> None:
    app = Components(lifespan=None)

    @app.component("/one/{x}", id="first", max_concurrency=3)
    def one(input: dict[str, Any], x: str) -> str:
        return x

    both = Udf().added_to(app)

    assert [(each.path, each.id) for each in both.infos()] == [("/one/{x}", "first"), ("/udf", "udf")]
    assert both.infos()[0] == app.infos()[0]
    assert app.get("udf") is None


def test_a_path_that_is_taken_is_refused() -> None:
    app = Components()
    app.component("/udf")(lambda input: input)

    with pytest.raises(ConfigError, match="the path is taken"):
        Udf().added_to(app)
