import logging

import anyio
import msgspec
import pytest

from stepflow.components import Batch, Components, Context
from stepflow.engine import Engine
from stepflow.errors import ResourceUnavailableError, RunFailedError
from stepflow.flow.read import flow_from_json
from stepflow.records import ErrorCode, Task

pytestmark = pytest.mark.anyio

FLOW = {"steps": [{"id": "only", "component": "/call", "input": {"$input": "$"}}], "output": {"$step": "only"}}
TWICE = {"steps": [{"id": "t", "component": "/twice", "input": {"$input": "$"}}], "output": {"$step": "t"}}


class Point(msgspec.Struct):
    x: int


def registry(function) -> Components:
    app = Components()
    app.component("/call")(function)

    @app.component("/twice")
    async def twice(input: int) -> int:
        return 2 * input

    return app


class Watch:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def on_event(self, run_id: str, event: object) -> None:
        pass

    def on_progress(self, task: Task, progress: object) -> None:
        self.seen.append((task.item, progress))


async def test_it_knows_the_run_the_step_and_the_attempt():
    async def call(input, ctx: Context):
        is_root = ctx.run_id == ctx.root_run_id
        return [is_root, len(ctx.flow_id), ctx.step_id, ctx.item, ctx.attempt, ctx.deadline, ctx.state]

    async with Engine(registry(call)) as engine:
        assert await engine.run(FLOW, 1) == [True, 64, "only", 0, 1, None, None]


async def test_the_task_id_is_the_same_on_every_attempt_and_no_other():
    seen: list[str] = []

    async def call(input, ctx: Context):
        seen.append(ctx.task_id)
        if ctx.attempt < 3:
            raise ResourceUnavailableError("not yet")

    retried = {"action": "retry", "backoff": {"type": "constant", "delayMs": 0}}
    flow = {**FLOW, "steps": [{**FLOW["steps"][0], "onError": retried}]}
    async with Engine(registry(call)) as engine:
        await (await engine.submit(flow, [1, 2])).wait()

    assert len(seen) == 6
    assert sorted(seen.count(id) for id in set(seen)) == [3, 3]


async def test_it_knows_the_deadline_of_the_run():
    def call(input, ctx: Context):
        return ctx.deadline is not None

    async with Engine(registry(call)) as engine:
        assert await engine.run(FLOW, 1, deadline_s=1000) is True


async def test_its_logger_is_bound_to_the_call(caplog):
    def call(input, ctx: Context):
        ctx.logger.warning("look at %s", input, extra={"mine": 1})

    with caplog.at_level(logging.INFO, "stepflow.component"):
        async with Engine(registry(call)) as engine:
            await engine.run(FLOW, "this")

    record = next(record for record in caplog.records if record.name == "stepflow.component")
    assert record.getMessage() == "look at this"
    assert (record.step_id, record.item, record.attempt, record.mine) == ("only", 0, 1, 1)


@pytest.mark.parametrize("color", ["async", "sync"])
async def test_progress_reaches_who_watches(color):
    async def call(input, ctx: Context):
        ctx.progress({"done": 0.5})

    def call_in_thread(input, ctx: Context):
        ctx.progress({"done": 0.5})

    watch = Watch()
    async with Engine(registry(call if color == "async" else call_in_thread), observers=[watch]) as engine:
        await engine.run(FLOW, 1)

    assert watch.seen == [(0, {"done": 0.5})]


@pytest.mark.parametrize("color", ["async", "sync"])
async def test_blobs_are_stored_and_read(color):
    async def call(input, ctx: Context):
        ids = [await ctx.put_blob(b"\x00\x01", filename="a.bin"), await ctx.put_blob({"p": Point(1)})]
        return [list(await ctx.get_blob(ids[0])), await ctx.get_blob(ids[1])]

    def call_in_thread(input, ctx: Context):
        ids = [ctx.sync.put_blob(b"\x00\x01", filename="a.bin"), ctx.sync.put_blob({"p": Point(1)})]
        return [list(ctx.sync.get_blob(ids[0])), ctx.sync.get_blob(ids[1])]

    async with Engine(registry(call if color == "async" else call_in_thread)) as engine:
        assert await engine.run(FLOW, 1) == [[0, 1], {"p": {"x": 1}}]


async def test_a_blob_that_is_not_there_is_a_missing_resource():
    async def call(input, ctx: Context):
        await ctx.get_blob("0" * 64)

    async with Engine(registry(call)) as engine:
        with pytest.raises(RunFailedError) as failed:
            await engine.run(FLOW, 1)

    assert failed.value.code is ErrorCode.RESOURCE_UNAVAILABLE


@pytest.mark.parametrize("color", ["async", "sync"])
async def test_a_sub_run_gives_what_became_of_each_input(color):
    async def call(input, ctx: Context):
        return [[r.ok, r.output] for r in await ctx.run_flow(TWICE, [1, 2, "x"])]

    def call_in_thread(input, ctx: Context):
        return [[r.ok, r.output] for r in ctx.sync.run_flow(TWICE, [1, 2, "x"])]

    async with Engine(registry(call if color == "async" else call_in_thread)) as engine:
        assert await engine.run(FLOW, 1) == [[True, 2], [True, 4], [False, None]]


async def test_a_sub_run_takes_a_flow_that_was_read_before():
    flow = flow_from_json(TWICE)

    async def call(input, ctx: Context):
        return await ctx.evaluate(flow, 3)

    async with Engine(registry(call)) as engine:
        assert await engine.run(FLOW, 1) == 6


@pytest.mark.parametrize("color", ["async", "sync"])
async def test_evaluate_gives_the_output_or_raises_the_items_failure(color):
    async def call(input, ctx: Context):
        return await ctx.evaluate(TWICE, input)

    def call_in_thread(input, ctx: Context):
        return ctx.sync.evaluate(TWICE, input)

    async with Engine(registry(call if color == "async" else call_in_thread)) as engine:
        assert await engine.run(FLOW, 4) == 8
        with pytest.raises(RunFailedError) as failed:
            await engine.run(FLOW, "x")

    assert failed.value.code is ErrorCode.INVALID_INPUT


async def test_sub_runs_may_run_at_the_same_time():
    async def call(input, ctx: Context):
        results: dict[int, object] = {}

        async def one(number: int) -> None:
            results[number] = await ctx.evaluate(TWICE, number)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(one, number)
        return [results[number] for number in range(5)]

    app = Components()
    app.component("/call", max_concurrency=1)(call)

    @app.component("/twice")
    async def twice(input: int) -> int:
        return 2 * input

    async with Engine(app, max_concurrency=1) as engine:
        assert await engine.run(FLOW, 1) == [0, 2, 4, 6, 8]


async def test_inputs_of_a_sub_run_have_to_be_json():
    async def call(input, ctx: Context):
        await ctx.run_flow(TWICE, [float("nan")])

    async with Engine(registry(call)) as engine:
        with pytest.raises(RunFailedError, match="NaN is not JSON"):
            await engine.run(FLOW, 1)


async def test_blocking_on_the_event_loop_is_refused():
    async def call(input, ctx: Context):
        ctx.sync.evaluate(TWICE, 1)

    async with Engine(registry(call)) as engine:
        with pytest.raises(RunFailedError, match="block the event loop"):
            await engine.run(FLOW, 1)


async def test_a_call_of_a_batch_has_no_sub_runs():
    app = Components()

    @app.component("/call", batch=Batch(size=1))
    async def call(inputs: list, ctx: Context):
        await ctx.run_flow(TWICE, inputs)
        return inputs

    async with Engine(app) as engine:
        with pytest.raises(RunFailedError, match="one of a batch cannot have sub-runs"):
            await engine.run(FLOW, 1)
