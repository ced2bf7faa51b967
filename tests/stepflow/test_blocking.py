import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import stepflow
from stepflow.blocking import SyncEngine
from stepflow.errors import EngineClosedError, RunFailedError
from stepflow.execution.events import RunEnded, RunStarted
from stepflow.records import RunStatus

DOUBLE = {"steps": [{"id": "d", "component": "/double", "input": {"$input": "n"}}], "output": {"$step": "d"}}


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
            thread.join()

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

    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_flow_path_that_is_not_there_is_a_plain_error() -> None:
    with pytest.raises(stepflow.FlowInvalidError, match=r"nowhere\.yaml"):
        stepflow.run("nowhere.yaml", {})
