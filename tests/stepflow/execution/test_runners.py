"""Who performs which step when, and how many at a time."""

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import RetryAfter
from stepflow.execution.runners import TURN
from stepflow.testing.clock import turned_backend

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]
Chained = Callable[..., dict[str, Any]]


def echo() -> Components:
    app = Components()

    @app.component("/echo")
    async def echo(value: Any) -> Any:
        return value

    return app


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


async def test_a_chain_of_thousands_of_steps_needs_no_stack(make_engine: MakeEngine, chained: Chained) -> None:
    flow = chained(*["/echo"] * 3_000)
    flow["steps"][-1]["input"] = {"$if": {"$step": "s2998"}, "then": {"$step": "s2998"}}

    async with make_engine(echo()) as engine:
        assert await engine.run(flow, 1) == 1


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


@pytest.mark.parametrize("max_concurrency", [1, 100])
async def test_the_event_loop_has_turns_while_steps_wait_for_nothing(
    make_engine: MakeEngine, chained: Chained, max_concurrency: int
) -> None:
    """A server answers and hears heartbeats meanwhile, and what has happened is committed."""
    turns: list[int] = []

    async with make_engine(echo()) as engine, anyio.create_task_group() as tasks:

        async def look(run_id: str) -> None:
            while True:
                record = await engine.get(run_id)
                turns.append(record.succeeded)
                await anyio.lowlevel.checkpoint()

        run = await engine.submit(chained("/echo", "/echo"), range(3_000), max_concurrency=max_concurrency)
        tasks.start_soon(look, run.id)
        await run.wait()
        tasks.cancel_scope.cancel()

    assert len(turns) >= 6_000 / TURN - 5
    assert len(set(turns)) > 10
