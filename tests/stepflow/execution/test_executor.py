import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import PluginUnavailableError, ResourceUnavailableError, RetryAfter, RunFailedError
from stepflow.execution.events import (
    ItemEnded,
    RunEnded,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
)
from stepflow.execution.verdict import BackoffPolicy, RetrySettings
from stepflow.flow.read import flow_from_json
from stepflow.plan.compile import build_plan
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import ErrorCode, RunStatus
from stepflow.testing.clock import turned_backend

pytestmark = pytest.mark.anyio

LAZINESS = json.loads((Path(__file__).parents[2] / "data" / "expressions.json").read_text())["laziness"]

MakeEngine = Callable[..., Engine]
Chained = Callable[..., dict[str, Any]]


def echo() -> Components:
    app = Components()

    @app.component("/echo")
    async def echo(value: Any) -> Any:
        return value

    return app


@pytest.mark.parametrize("vector", LAZINESS, ids=lambda vector: vector["name"])
async def test_only_what_is_needed_runs(vector: dict[str, Any], make_engine: MakeEngine, events: Any) -> None:
    expected = vector.get("recommended", vector)

    async with make_engine(Components()) as engine:
        output = await engine.run(vector["flow"], vector["input"])

    ran = [vector["flow"]["steps"][event.step]["id"] for event in events.of(StepStarted)]
    assert output == expected["expect"]["value"]
    assert sorted(ran) == sorted(expected["executed_steps"])


async def test_items_are_pushed_forward_in_order(make_engine: MakeEngine, chained: Chained) -> None:
    app, seen = Components(), []

    @app.component("/look")
    async def look(value: Any, ctx: Context) -> Any:
        seen.append((ctx.item, ctx.step_id))
        await anyio.sleep(1)
        return value

    async with make_engine(app) as engine:
        run = await engine.submit(chained("/look", "/look"), [0, 1], max_concurrency=1)
        await run.wait()

    assert seen == [(0, "s0"), (0, "s1"), (1, "s0"), (1, "s1")]


async def test_max_concurrency_caps_the_tasks_in_flight(make_engine: MakeEngine, chained: Chained) -> None:
    app, now, most = Components(), [0], [0]

    @app.component("/work")
    async def work(value: Any) -> Any:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await anyio.sleep(1)
        now[0] -= 1
        return value

    async with make_engine(app) as engine:
        run = await engine.submit(chained("/work", "/work"), range(20), max_concurrency=3)
        record = await run.wait()

    assert record.succeeded == 20
    assert most[0] == 3


async def test_n_steps_write_two_events_each(make_engine: MakeEngine, chained: Chained, events: Any) -> None:
    async with make_engine(echo()) as engine:
        run = await engine.submit(chained("/echo", "/echo", "/echo"), [1, 2])
        await run.wait()

    assert len(events.of(StepStarted)) == len(events.of(StepSucceeded)) == 6
    assert len(events.of(ItemEnded)) == 2
    assert len(events.all) == 3 + 6 * 2 + 2 + 1  # started, admitted, closed; steps; items; the end


async def test_a_retry_waits_without_holding_a_slot(make_engine: MakeEngine, chained: Chained) -> None:
    app, order = Components(), []

    @app.component("/flaky")
    async def flaky(value: int, ctx: Context) -> int:
        order.append((value, ctx.attempt))
        if value == 0 and ctx.attempt == 1:
            raise RetryAfter(36_000)
        return value

    async with make_engine(app) as engine:
        run = await engine.submit(chained("/flaky", on_error={"action": "retry"}), [0, 1], max_concurrency=1)
        record = await run.wait()

    assert record.succeeded == 2
    assert order == [(0, 1), (1, 1), (0, 2)]


async def test_a_component_failure_is_retried_as_often_as_the_step_asks(
    make_engine: MakeEngine, chained: Chained, events: Any
) -> None:
    app = Components()

    @app.component("/broken")
    async def broken(value: int) -> int:
        raise ResourceUnavailableError("not there")

    async with make_engine(app) as engine:
        with pytest.raises(RunFailedError) as failure:
            await engine.run(chained("/broken", on_error={"action": "retry", "maxRetries": 2}), 1)

    assert failure.value.code is ErrorCode.RESOURCE_UNAVAILABLE
    assert failure.value.step == "s0"
    assert [event.attempt for event in events.of(StepStarted)] == [1, 2, 3]
    assert len(events.of(StepRetried)) == 2


async def test_delays_grow_and_are_drawn_within_their_ceiling(
    make_engine: MakeEngine, chained: Chained, events: Any
) -> None:
    app = Components()

    @app.component("/broken")
    async def broken(value: int) -> int:
        raise ValueError("no")

    settings = RetrySettings(backoff=BackoffPolicy(type="exponential", min_delay_ms=1_000, max_delay_ms=3_000))
    async with make_engine(app, retry=settings) as engine:
        run = await engine.submit(chained("/broken", on_error={"action": "retry", "maxRetries": 4}), [1])
        await run.wait()

    for event, ceiling in zip(events.of(StepRetried), (1, 2, 3, 3), strict=True):
        assert ceiling / 2 <= event.delay_s <= ceiling


async def test_a_default_takes_the_place_of_a_failure(make_engine: MakeEngine, chained: Chained, events: Any) -> None:
    app = Components()

    @app.component("/broken")
    async def broken(value: int) -> int:
        raise ValueError("no")

    async with make_engine(app) as engine:
        output = await engine.run(chained("/broken", on_error={"action": "useDefault", "defaultValue": [7]}), 1)

    assert output == [7]
    assert events.of(StepDefaulted)[0].error.message == "no"


async def test_a_default_covers_an_unroutable_step(make_engine: MakeEngine, chained: Chained) -> None:
    async with make_engine(echo()) as engine:
        output = await engine.run(chained("/nobody/home", on_error={"action": "useDefault", "defaultValue": 1}))

    assert output == 1


async def test_a_default_does_not_cover_the_failure_of_its_own_input(make_engine: MakeEngine) -> None:
    step = {"id": "a", "component": "/echo", "input": {"$input": "missing"}, "onError": {"action": "useDefault"}}

    async with make_engine(echo()) as engine:
        with pytest.raises(RunFailedError) as failure:
            await engine.run({"steps": [step], "output": {"$step": "a"}}, {})

    assert failure.value.code is ErrorCode.EXPRESSION_FAILURE


async def test_an_inherited_failure_is_never_retried(make_engine: MakeEngine, events: Any) -> None:
    app = Components()

    @app.component("/broken")
    async def broken(value: Any) -> Any:
        raise ValueError("no")

    steps = [
        {"id": "a", "component": "/broken", "input": 1},
        {"id": "b", "component": "/broken", "input": {"$step": "a"}, "onError": {"action": "retry"}},
    ]
    async with make_engine(app) as engine:
        with pytest.raises(RunFailedError):
            await engine.run({"steps": steps, "output": {"$step": "b"}})

    assert events.of(StepRetried) == []
    assert [event.error.message for event in events.of(StepFailed)] == ["no", "no"]


async def test_a_step_times_out_on_each_attempt_and_is_retried(
    make_engine: MakeEngine, chained: Chained, events: Any
) -> None:
    app = Components()

    @app.component("/slow")
    async def slow(value: Any, ctx: Context) -> Any:
        await anyio.sleep(100 if ctx.attempt < 3 else 1)
        return ctx.attempt

    flow = chained("/slow")
    flow["steps"][0]["timeout"] = {"$variable": "patience"}
    async with make_engine(app) as engine:
        output = await engine.run(flow, 1, variables={"patience": 5})

    assert output == 3
    assert [event.error.code for event in events.of(StepRetried)] == [ErrorCode.TIMEOUT] * 2


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
        engine._plans._plans[id(flow)] = (flow, plan)
        run = await engine.submit(flow, [1])
        record = await run.wait()

    assert record.status is RunStatus.FAILED
    assert record.error is not None
    assert "deadlock" in record.error.message
    assert "'a', 'b'" in record.error.message


async def test_sub_runs_fifty_deep_finish_with_one_slot(make_engine: MakeEngine) -> None:
    app = Components()

    @app.component("/down")
    async def down(depth: int, ctx: Context) -> int:
        if depth == 0:
            return 0
        return 1 + await ctx.evaluate(flow, depth - 1)

    flow = {"steps": [{"id": "d", "component": "/down", "input": {"$input": "$"}}], "output": {"$step": "d"}}
    async with make_engine(app) as engine:
        output = await engine.run(flow, 50, max_concurrency=1)

    assert output == 50


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


async def test_a_plugin_that_is_not_there_fails_only_the_step_routed_to_it(
    make_engine: MakeEngine, events: Any
) -> None:
    def missing() -> Any:
        raise PluginUnavailableError("no plugin of type grpc: pip install 'stepflow-engine[grpc]'")

    routes = {"/gpu": [{"plugin": "gpu"}], "/builtin": [{"plugin": "builtin"}]}
    steps = [
        {"id": "far", "component": "/gpu/x", "mustExecute": True},
        {"id": "near", "component": "/builtin/noop", "input": 5},
    ]
    engine = make_engine(Components(), plugins={"gpu": missing, "builtin": BuiltinPlugin()}, routes=routes)
    async with engine:
        output = await engine.run({"steps": steps, "output": {"$step": "near"}})
        again = await engine.run({"steps": steps, "output": {"$step": "near"}})

    failed, _ = events.of(StepFailed)
    assert output == again == 5
    assert failed.error.code is ErrorCode.UNREACHABLE
    assert "stepflow-engine[grpc]" in failed.error.message
    assert events.of(StepRetried) == []


async def test_a_bug_in_a_plugin_is_a_failure_of_its_step(make_engine: MakeEngine, chained: Chained) -> None:
    class Buggy(BuiltinPlugin):
        async def perform(self, task: Any, host: Any) -> Any:
            raise ZeroDivisionError("oops")

    async with make_engine(Components(), plugins={"b": Buggy()}, routes={"/builtin": [{"plugin": "b"}]}) as engine:
        with pytest.raises(RunFailedError, match="oops") as failure:
            await engine.run(chained("/builtin/noop"))

    assert failure.value.code is ErrorCode.ORCHESTRATOR_ERROR


async def test_a_chain_of_thousands_of_steps_needs_no_stack(make_engine: MakeEngine, chained: Chained) -> None:
    flow = chained(*["/echo"] * 3_000)
    flow["steps"][-1]["input"] = {"$if": {"$step": "s2998"}, "then": {"$step": "s2998"}}

    async with make_engine(echo()) as engine:
        assert await engine.run(flow, 1) == 1


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


@pytest.mark.parametrize("anyio_backend", [turned_backend("asyncio")], ids=["asyncio"])  # Trio has no such thing
async def test_a_component_that_cancels_its_own_task_harms_nobody_else(
    make_engine: MakeEngine, chained: Chained
) -> None:
    app = Components()

    @app.component("/rude")
    async def rude(value: int) -> int:
        if value == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await anyio.sleep(1)
        return value

    async with make_engine(app) as engine:
        run = await engine.submit(chained("/rude"), [0, 1, 2], max_concurrency=1)
        with anyio.fail_after(60):
            record = await run.wait()
        results = [result async for result in run.results()]

    assert (record.succeeded, record.failed) == (2, 1)
    assert results[1].error is not None
    assert "cancelled the task" in results[1].error.message
