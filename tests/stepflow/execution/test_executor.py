import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from echoing import echo

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import RunFailedError
from stepflow.execution.events import (
    ItemEnded,
    RunEnded,
    StepStarted,
    StepSucceeded,
)
from stepflow.flow.read import flow_from_json
from stepflow.plan.compile import build_plan
from stepflow.records import ErrorCode, RunStatus

pytestmark = pytest.mark.anyio

LAZINESS = json.loads((Path(__file__).parents[2] / "data" / "expressions.json").read_text())["laziness"]

MakeEngine = Callable[..., Engine]
Chained = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("vector", LAZINESS, ids=lambda vector: vector["name"])
async def test_only_what_is_needed_runs(vector: dict[str, Any], make_engine: MakeEngine, events: Any) -> None:
    expected = vector.get("recommended", vector)

    async with make_engine(Components()) as engine:
        output = await engine.run(vector["flow"], vector["input"])

    ran = [vector["flow"]["steps"][event.step]["id"] for event in events.of(StepStarted)]
    assert output == expected["expect"]["value"]
    assert sorted(ran) == sorted(expected["executed_steps"])


async def test_n_steps_write_two_events_each(make_engine: MakeEngine, chained: Chained, events: Any) -> None:
    async with make_engine(echo()) as engine:
        run = await engine.submit(chained("/echo", "/echo", "/echo"), [1, 2])
        await run.wait()

    assert len(events.of(StepStarted)) == len(events.of(StepSucceeded)) == 6
    assert len(events.of(ItemEnded)) == 2
    assert len(events.all) == 3 + 6 * 2 + 2 + 1  # started, admitted, closed; steps; items; the end


async def test_a_deadline_ends_the_run_and_its_unfinished_items(make_engine: MakeEngine, chained: Chained) -> None:
    app = Components()

    @app.component("/work")
    async def work(value: int) -> int:
        await anyio.sleep(value)
        return value

    async with make_engine(app) as engine:
        run = await engine.submit(chained("/work"), [1, 1_000], deadline_s=60)
        record = await run.wait()
        results = [result async for result in run.results()]

    assert record.status is RunStatus.FAILED
    assert results[0].output == 1
    assert results[1].error is not None
    assert results[1].error.code is ErrorCode.TIMEOUT


async def test_cancelling_reaches_running_components_and_stays(make_engine: MakeEngine, chained: Chained) -> None:
    app, started, cleaned = Components(), {1: anyio.Event(), 2: anyio.Event()}, []

    @app.component("/forever")
    async def forever(value: int) -> int:
        started[value].set()
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(value)
        return value

    async with make_engine(app) as engine:
        run = await engine.submit(chained("/forever"), [1, 2])
        await started[1].wait()
        await started[2].wait()
        await run.cancel()
        await run.cancel()
        record = await run.wait()
        results = [result async for result in run.results()]
        await anyio.sleep(1)

    assert record.status is RunStatus.CANCELLED
    assert (record.cancelled, record.succeeded, record.failed) == (2, 0, 0)
    assert sorted(cleaned) == [1, 2]
    assert [result.error and result.error.code for result in results] == [ErrorCode.CANCELLED] * 2


async def test_a_plan_that_waits_for_itself_is_ended_by_name(make_engine: MakeEngine) -> None:
    steps = [
        {"id": "a", "component": "/echo", "input": {"$step": "b"}},
        {"id": "b", "component": "/echo", "input": {"$step": "a"}},
    ]
    flow = flow_from_json({"steps": steps, "output": {"$step": "a"}})
    plan = build_plan(flow)

    async with make_engine(echo()) as engine:
        engine._setup.plans._plans[id(flow)] = (flow, plan)
        run = await engine.submit(flow, [1])
        record = await run.wait()

    assert record.status is RunStatus.FAILED
    assert record.error is not None
    assert "deadlock" in record.error.message
    assert "'a', 'b'" in record.error.message


async def test_a_flow_that_starts_itself_without_end_is_stopped(make_engine: MakeEngine) -> None:
    app = Components()

    @app.component("/down")
    async def down(value: int, ctx: Context) -> Any:
        return await ctx.evaluate(flow, value + 1)

    flow = {"steps": [{"id": "d", "component": "/down", "input": {"$input": "$"}}], "output": {"$step": "d"}}
    async with make_engine(app) as engine:
        with pytest.raises(RunFailedError, match="nested more than"):
            await engine.run(flow, 0)


async def test_a_sub_run_knows_its_parent_and_root(make_engine: MakeEngine) -> None:
    inner = {"steps": [{"id": "i", "component": "/echo", "input": {"$input": "$"}}], "output": {"$step": "i"}}
    step = {"id": "m", "component": "/builtin/map", "input": {"workflow": {"$literal": inner}, "items": [1, 2, 3]}}

    async with make_engine(echo()) as engine:
        run = await engine.submit({"steps": [step], "output": {"$step": "m"}}, [None])
        await run.wait()
        (child,) = [record for record in await engine.backend.runs.list() if record.id != run.id]
        flow = await engine.backend.blobs.get(child.flow_id)

    assert child.root_id == run.id
    assert child.parent is not None
    assert (child.parent.run_id, child.parent.item, child.parent.step) == (run.id, 0, 0)
    assert child.succeeded == 3
    assert flow is not None


async def test_cancelling_a_run_cancels_its_sub_runs(make_engine: MakeEngine) -> None:
    app, started = Components(), anyio.Event()

    @app.component("/forever")
    async def forever(value: Any) -> Any:
        started.set()
        await anyio.sleep_forever()

    inner = {"steps": [{"id": "i", "component": "/forever"}], "output": {"$step": "i"}}
    step = {"id": "m", "component": "/builtin/map", "input": {"workflow": {"$literal": inner}, "items": [1]}}
    async with make_engine(app) as engine:
        run = await engine.submit({"steps": [step], "output": {"$step": "m"}}, [None])
        await started.wait()
        await run.cancel()
        records = await engine.backend.runs.list()

    assert [record.status for record in records] == [RunStatus.CANCELLED] * 2


async def test_an_empty_batch_ends_at_once(make_engine: MakeEngine, chained: Chained, events: Any) -> None:
    async with make_engine(echo()) as engine:
        run = await engine.submit(chained("/echo"), [])
        record = await run.wait()

    assert record.status is RunStatus.COMPLETED
    assert events.of(RunEnded)[0].error is None


async def test_a_failed_must_execute_step_does_not_fail_the_run(make_engine: MakeEngine) -> None:
    step = {"id": "a", "component": "/none", "mustExecute": True}

    async with make_engine(echo()) as engine:
        run = await engine.submit({"steps": [step], "output": 3}, [None])
        record = await run.wait()

    assert record.status is RunStatus.COMPLETED
