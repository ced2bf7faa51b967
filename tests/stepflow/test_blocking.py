import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stepflow
from stepflow.blocking import SyncEngine
from stepflow.errors import EngineClosedError, RunFailedError
from stepflow.execution.events import RunEnded, RunStarted, decode_events
from stepflow.execution.options import RecoverySettings
from stepflow.records import RunStatus

DOUBLE: dict[str, Any] = {
    "steps": [{"id": "d", "component": "/double", "input": {"$input": "n"}}],
    "output": {"$step": "d"},
}


@pytest.fixture
def app() -> stepflow.Components:
    app = stepflow.Components()

    @app.component("/double")
    def double(n: int) -> int:
        if n < 0:
            raise ValueError("too small")
        return 2 * n

    return app


def test_one_call_runs_a_flow(app: stepflow.Components) -> None:
    assert stepflow.run(DOUBLE, {"n": 21}, components=app) == 42


def test_a_failure_carries_code_message_step_and_run(app: stepflow.Components) -> None:
    with pytest.raises(RunFailedError) as failure:
        stepflow.run(DOUBLE, {"n": -1}, components=app)

    error = failure.value
    assert (error.code, error.message, error.step) == ("COMPONENT_FAILED", "too small", "d")
    assert error.run_id in str(error)


def test_a_batch_is_lazy_at_both_ends(app: stepflow.Components) -> None:
    taken: list[int] = []

    def inputs() -> Iterator[Any]:
        for number in range(100_000):
            taken.append(number)
            yield {"n": number}

    results = stepflow.run_batch(DOUBLE, inputs(), components=app)
    first = [next(results).output for _ in range(3)]
    results.close()  # type: ignore[attr-defined]

    assert first == [0, 2, 4]
    assert len(taken) < 5_000


def test_failed_items_are_results_like_others(app: stepflow.Components) -> None:
    results = list(stepflow.run_batch(DOUBLE, [{"n": 1}, {"n": -1}], components=app))

    assert [result.ok for result in results] == [True, False]
    assert results[1].error is not None
    assert results[1].error.message == "too small"


def test_an_engine_serves_many_threads(app: stepflow.Components) -> None:
    outputs: dict[int, Any] = {}

    with SyncEngine(app) as engine:

        def ask(number: int) -> None:
            outputs[number] = engine.run(DOUBLE, {"n": number})

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)

    assert outputs == {number: 2 * number for number in range(16)}


def test_it_works_where_a_loop_is_running(app: stepflow.Components) -> None:
    async def cell() -> Any:
        return stepflow.run(DOUBLE, {"n": 4}, components=app)

    assert asyncio.run(cell()) == 8


def test_runs_are_listed_read_again_and_cancelled(app: stepflow.Components) -> None:
    with SyncEngine(app) as engine:
        run = engine.submit(DOUBLE, [{"n": 1}, {"n": 2}], key="mine")
        record = run.wait()
        (listed,) = engine.list_runs()
        again = engine.get_run(run.id)
        events = list(again.events())
        run.cancel()

        assert record == listed == again.record()
        assert (record.status, record.key) == (RunStatus.COMPLETED, "mine")
        assert [result.output for result in again.results()] == [2, 4]
        assert (type(events[0]), type(events[-1])) == (RunStarted, RunEnded)


def test_a_closed_engine_says_so(app: stepflow.Components) -> None:
    engine = SyncEngine(app)

    with pytest.raises(EngineClosedError, match="with SyncEngine"):
        engine.run(DOUBLE, {"n": 1})


def test_the_function_run_stays_a_function_whatever_was_imported_before() -> None:
    code = "import stepflow; stepflow.Engine; stepflow.Run; assert callable(stepflow.run), stepflow.run"

    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_flow_path_that_is_not_there_is_a_plain_error() -> None:
    with pytest.raises(stepflow.FlowInvalidError, match=r"nowhere\.yaml"):
        stepflow.run("nowhere.yaml", {})


WOKEN_ELSEWHERE = """
import signal
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
INTERRUPTED = """
import anyio
import stepflow

app = stepflow.Components()

@app.component("/sleep")
async def sleep(value):
    print("at work", flush=True)
    await anyio.sleep_forever()

flow = {"steps": [{"id": "s", "component": "/sleep"}], "output": {"$step": "s"}}
inputs = INPUTS
try:
    with stepflow.SyncEngine(app) as engine:
        for _ in engine.run_batch(flow, inputs, max_concurrency=1):
            pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("inputs", ["range(600)", "iter(range(600))"])
@pytest.mark.parametrize("is_heard_elsewhere", [False, True])
def test_ctrl_c_leaves_the_engine_without_a_word(inputs: str, is_heard_elsewhere: bool) -> None:
    program = INTERRUPTED.replace("INPUTS", inputs)
    if is_heard_elsewhere:  # the thread that waits is never woken by the signal itself
        program = program.replace("try:", "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\ntry:", 1)
        program = WOKEN_ELSEWHERE + program
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=120)
    finally:
        process.kill()

    assert printed.splitlines()[-1] == "interrupted"
    assert said == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_is_told_that_the_engine_is_not_its_own(app: stepflow.Components) -> None:
    program = """
import os
from stepflow import SyncEngine
from stepflow.errors import EngineClosedError

flow = {"steps": [], "output": 1}
with SyncEngine() as engine:
    engine.run(flow)
    if os.fork() == 0:
        try:
            engine.run(flow)
        except EngineClosedError as error:
            os.write(1, f"{error}\\n".encode())
        os._exit(0)
    os.wait()
    print(engine.run(flow))
"""

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert found.stdout.splitlines() == [
        "the engine was opened before this process was forked: open one in each process",
        "1",
    ]


def test_the_inputs_of_a_batch_are_read_in_the_callers_thread(app: stepflow.Components) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE numbers (n INTEGER)")
    connection.executemany("INSERT INTO numbers VALUES (?)", [(number,) for number in range(1_000)])
    cursor = connection.execute("SELECT n FROM numbers ORDER BY n")

    results = stepflow.run_batch(DOUBLE, ({"n": n} for (n,) in cursor), components=app)

    assert [result.output for result in results] == [2 * number for number in range(1_000)]
    connection.close()


def test_the_inputs_of_a_batch_may_come_from_the_same_engine(app: stepflow.Components) -> None:
    with SyncEngine(app) as engine:
        inputs = ({"n": engine.run(DOUBLE, {"n": number})} for number in range(5))
        outputs = [result.output for result in engine.run_batch(DOUBLE, inputs)]

    assert outputs == [0, 4, 8, 12, 16]


def test_inputs_that_break_off_raise_their_own_error(app: stepflow.Components) -> None:
    def inputs() -> Iterator[Any]:
        yield {"n": 1}
        raise ZeroDivisionError("the file went away")

    results = stepflow.run_batch(DOUBLE, inputs(), components=app)

    with pytest.raises(ZeroDivisionError, match="went away"):
        list(results)


def test_a_batch_under_a_key_reads_its_inputs_the_same_way(app: stepflow.Components) -> None:
    with SyncEngine(app) as engine:
        first = [result.output for result in engine.run_batch(DOUBLE, iter([{"n": 1}, {"n": 2}]), key="k")]
        with pytest.raises(stepflow.InputInvalidError, match="differs"):
            list(engine.run_batch(DOUBLE, iter([{"n": 1}, {"n": 3}]), key="k"))

    assert first == [2, 4]


LEAVES_IT_OPEN = """
import atexit, sys
import stepflow

app = stepflow.Components()

@app.component("/forever")
async def forever(value):
    import anyio
    await anyio.sleep_forever()

flow = {"steps": [{"id": "s", "component": "/forever"}], "output": {"$step": "s"}}
engine = stepflow.SyncEngine(app, store=sys.argv[1])
engine.__enter__()
if sys.argv[2] == "closed":
    atexit.register(engine.__exit__, None, None, None)
print(engine.submit(flow, [1]).id)
"""


@pytest.mark.parametrize("how", ["left open", "closed"])
def test_a_program_that_leaves_its_engine_open_exits_and_lets_its_runs_go(tmp_path: Path, how: str) -> None:
    line = [sys.executable, "-c", LEAVES_IT_OPEN, str(tmp_path / "runs.db"), how]
    run_id = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    with SyncEngine(store=tmp_path / "runs.db", recovery=RecoverySettings(enabled=False)) as engine:
        events = [type(event).__name__ for event in _until_now(engine, run_id)]

    assert events[-1] == "RunReleased"


KEEPS_ITS_RESULTS = """
import itertools, os, sys
import stepflow

flow = {"steps": [], "output": {"$input": "$"}}
results = stepflow.run_batch(flow, itertools.count())
print(next(results).output, flush=True)
if HOW:
    sys.exit()
if os.fork() == 0:
    sys.exit()
os.wait()
results.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("is_left", [True, False])
def test_results_that_nobody_read_to_the_end_are_left_without_a_word(is_left: bool) -> None:
    program = KEEPS_ITS_RESULTS.replace("HOW", str(is_left))
    line = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]  # newer Pythons warn of every such fork

    found = subprocess.run(line, capture_output=True, text=True, timeout=120)

    assert [found.returncode, found.stdout, found.stderr] == [0, "0\n", ""]


def _until_now(engine: SyncEngine, run_id: str) -> list[object]:
    """What is stored of a run that nobody drives."""

    async def read() -> list[object]:
        rows = await engine.engine.backend.journal.read(run_id)
        return [event for row in rows for event in decode_events(row.payload)]

    return engine.call(read)
