"""Who performs which step when, and how many at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from echoing import echo

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import RetryAfter
from stepflow.execution.runners import TURN
from stepflow.protocols import Host
from stepflow.records import ComponentInfo, Json, Outcome, Succeeded, Task
from stepflow.testing.clock import turned_backend

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]
Chained = Callable[..., dict[str, Any]]


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


async def test_what_ended_at_once_is_followed_by_as_many_steps_at_once(
    make_engine: MakeEngine, chained: Chained
) -> None:
    """A runner whose step has waited goes on: the event loop had its turn meanwhile."""
    app, begun, gate = Components(), [0, 0], anyio.Event()

    @app.component("/hold")
    async def hold(is_second: bool) -> bool:
        begun[is_second] += 1
        await (anyio.sleep_forever() if is_second else gate.wait())
        return is_second

    many = 2 * TURN
    async with make_engine(app) as engine:
        run = await engine.submit(chained("/hold"), [False] * many + [True] * many, max_concurrency=many)
        await turns_until(lambda: begun[0] == many)
        gate.set()
        await turns_until(lambda: begun[1] == many, most=10)
        await run.cancel()

    assert begun == [many, many]


class Away:
    """A plugin whose first steps wait for a gate, those of the first item excepted."""

    leaves_process = True

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.begun = {"s0": 0, "s1": 0}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo]:
        return [ComponentInfo(id="c")]

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        """They are known."""

    async def perform(self, task: Task, host: Host) -> Outcome:
        self.begun[task.step_id] += 1
        if task.item:
            await (self.gate.wait() if task.step_id == "s0" else anyio.sleep_forever())
        return Succeeded(task.input)


async def test_items_whose_steps_leave_the_process_begin_at_once(make_engine: MakeEngine, chained: Chained) -> None:
    plugin = Away()

    async with make_engine(echo(), plugins={"w": plugin}, routes={"/w": [{"plugin": "w"}]}) as engine:
        run = await engine.submit(chained("/w/c"), range(101), max_concurrency=100)
        await turns_until(lambda: plugin.begun["s0"] > 0)
        await turns_until(lambda: plugin.begun["s0"] == 101, most=10)
        await run.cancel()

    assert plugin.begun["s0"] == 101


async def test_steps_that_become_ready_at_once_leave_the_process_at_once(
    make_engine: MakeEngine, chained: Chained
) -> None:
    """So they go in one frame to a worker."""
    plugin = Away()

    async with make_engine(echo(), plugins={"w": plugin}, routes={"/w": [{"plugin": "w"}]}) as engine:
        run = await engine.submit(chained("/w/c", "/w/c"), range(51), max_concurrency=51)
        await turns_until(lambda: plugin.begun == {"s0": 51, "s1": 1})
        plugin.gate.set()
        await turns_until(lambda: plugin.begun["s1"] == 51, most=10)
        await run.cancel()

    assert plugin.begun == {"s0": 51, "s1": 51}


async def turns_until(holds: Callable[[], bool], *, most: int = 10_000) -> None:
    """Give the event loop turns until something holds, at most so many."""
    for _ in range(most):
        if holds():
            return
        await anyio.lowlevel.checkpoint()
