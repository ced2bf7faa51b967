"""The engine for async tests, under asyncio and Trio."""

from typing import Any

import anyio
import pytest

import stepflow
from stepflow.records import RunStatus
from stepflow.testing.async_engine import AsyncScriptedEngine
from stepflow.testing.engine import ScriptedEngine
from stepflow.testing.script import UnscriptedError

pytestmark = pytest.mark.anyio

FLOW = {
    "steps": [
        {
            "id": "ask",
            "component": "/ask",
            "input": {"$input": "$"},
            "onError": {"action": "retry", "maxRetries": 3},
        }
    ],
    "output": {"$step": "ask"},
}


async def test_an_async_test_awaits_what_happens(stepflow_async_engine: AsyncScriptedEngine) -> None:
    stepflow_async_engine.script("/ask", [stepflow.RetryAfter(36_000), "ok", "second"])

    first = await stepflow_async_engine.run(FLOW, 1)
    batch = await stepflow_async_engine.run_batch(FLOW, [2])

    assert first.output == "ok"
    assert [result.output for result in batch] == ["second"]
    assert stepflow_async_engine.calls("/ask") == [1, 1, 2]
    assert stepflow_async_engine.clock.elapsed_s == 36_000
    assert stepflow_async_engine.events


async def test_the_tests_own_loop_goes_on_meanwhile(stepflow_async_engine: AsyncScriptedEngine) -> None:
    answered = anyio.Event()

    async def run() -> None:
        stepflow_async_engine.script("/ask", lambda input: input)
        await stepflow_async_engine.run_batch(FLOW, list(range(20)))
        answered.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        tasks.start_soon(run)
        await answered.wait()

    assert len(stepflow_async_engine.calls("/ask")) == 40


async def test_the_clock_is_turned_by_hand(stepflow_async_engine: AsyncScriptedEngine) -> None:
    stepflow_async_engine.script("/ask", [stepflow.RetryAfter(60), "ok"])
    stepflow_async_engine.clock.manual()

    run = await stepflow_async_engine.submit(FLOW, [1])
    await stepflow_async_engine.clock.advance(59)
    before = (await run.record()).status
    await stepflow_async_engine.clock.advance(1)

    assert before is RunStatus.RUNNING
    assert (await run.record()).status is RunStatus.COMPLETED
    assert [result.output for result in await run.results()] == ["ok"]


async def test_the_blocking_engine_is_refused_in_an_async_test(stepflow_engine: ScriptedEngine) -> None:
    with pytest.raises(RuntimeError, match="use the fixture stepflow_async_engine"):
        stepflow_engine.run(FLOW, 1)


async def test_a_component_that_nobody_plays_fails_the_test_by_name(
    stepflow_async_engine: AsyncScriptedEngine,
) -> None:
    flow: dict[str, Any] = {"steps": [{"id": "a", "component": "/nobody"}], "output": {"$step": "a"}}

    with pytest.raises(UnscriptedError, match="/nobody"):
        await stepflow_async_engine.run(flow)
