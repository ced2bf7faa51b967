import threading
from contextvars import ContextVar

import anyio
import msgspec
import pydantic
import pytest

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import ComponentError, ConfigError
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.records import ErrorCode, Failed, Succeeded

pytestmark = pytest.mark.anyio

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


class Model(pydantic.BaseModel):
    score: float


class Document(msgspec.Struct):
    text: str
    tags: list[str] = []


def flow_of(path: str) -> dict:
    return {
        "steps": [{"id": "only", "component": path, "input": {"$input": "$"}}],
        "output": {"$step": "only"},
    }


async def test_a_component_is_called_by_its_id_and_by_its_path(perform):
    app = Components()

    @app.component("/text/shout", id="shout")
    async def shout(input: str) -> str:
        return input.upper()

    assert await perform(app, "shout", "a") == Succeeded("A")
    assert await perform(app, "/text/shout", "a") == Succeeded("A")


async def test_an_unknown_component_names_what_there_is(perform):
    app = Components()

    @app.component("/text/shout")
    async def shout(input):
        return input

    outcome = await perform(app, "/text/shuot")

    assert outcome.code is ErrorCode.COMPONENT_NOT_FOUND
    assert "/text/shout" in outcome.message


@pytest.mark.parametrize("color", ["async", "sync"])
async def test_path_parameters_go_by_name(perform, color):
    app = Components()

    if color == "async":

        @app.component("/core/{module}/{*rest}")
        async def call(input, *, rest: str, module: str):
            return [module, rest]
    else:

        @app.component("/core/{module}/{*rest}")
        def call(input, *, rest: str, module: str):
            return [module, rest]

    assert await perform(app, "/core/math/trig/sin") == Succeeded(["math", "trig/sin"])


async def test_the_input_becomes_the_hinted_type(perform):
    app = Components()

    @app.component
    def count(input: Document) -> dict:
        return {"length": len(input.text), "type": type(input).__name__}

    assert await perform(app, "/count", {"text": "abc", "more": 1}) == Succeeded({"length": 3, "type": "Document"})


async def test_an_input_of_another_type_names_its_path(perform):
    app = Components()

    @app.component
    async def count(input: Document) -> int:
        return len(input.text)

    outcome = await perform(app, "/count", {"text": "abc", "tags": ["a", 1]})

    assert outcome.code is ErrorCode.INVALID_INPUT
    assert "$.tags[1]" in outcome.message


async def test_an_input_that_a_model_refuses_names_its_paths(perform):
    app = Components()

    @app.component
    async def score(input: list[Model]) -> float:
        return input[0].score

    outcome = await perform(app, "/score", [{"score": "high"}, {}])

    assert outcome.code is ErrorCode.INVALID_INPUT
    assert "`$[0].score`" in outcome.message
    assert "`$[1].score`" in outcome.message
    assert await perform(app, "/score", [{"score": 0.5}]) == Succeeded(0.5)


async def test_a_hint_that_cannot_be_used_is_refused_before_anything_runs():
    app = Components()

    @app.component
    async def odd(input: threading.Event):
        return 1

    with pytest.raises(ConfigError, match="JSON cannot become"):
        FunctionsPlugin(app)


async def test_what_is_raised_while_a_plugin_is_open_comes_out_as_it_is():
    with pytest.raises(ZeroDivisionError):
        async with FunctionsPlugin(Components()).open():
            raise ZeroDivisionError


async def test_user_code_may_change_its_input(perform, slots, task):
    app = Components()

    @app.component
    async def spoil(input: dict) -> int:
        input["deep"]["list"].clear()
        return 0

    @app.component
    def spoil_too(input):
        input["deep"]["list"].clear()
        return 0

    given = {"deep": {"list": [1]}}
    await perform(app, "/spoil", given)
    await perform(app, "/spoil_too", given)

    assert given == {"deep": {"list": [1]}}


async def test_the_output_is_the_callers_own(perform):
    app = Components()
    kept = {"list": [1]}

    @app.component
    async def give(input):
        return kept

    outcome = await perform(app, "/give")
    kept["list"].append(2)

    assert outcome == Succeeded({"list": [1]})


async def test_an_output_that_is_not_json_names_the_path(perform):
    app = Components()

    @app.component
    def give(input):
        return {"scores": [0.5, float("nan")]}

    outcome = await perform(app, "/give")

    assert outcome == Failed(ErrorCode.COMPONENT_FAILED, "the output is not JSON: $.scores[1]: NaN is not JSON")


async def test_plain_functions_run_in_other_threads(perform):
    app = Components()
    here = threading.get_ident()

    @app.component
    def where(input):
        return threading.get_ident() == here

    @app.component
    async def where_async(input):
        return threading.get_ident() == here

    assert await perform(app, "/where") == Succeeded(False)
    assert await perform(app, "/where_async") == Succeeded(True)


async def test_a_plain_function_around_an_async_one_is_awaited(perform):
    app = Components()

    async def inner(input):
        await anyio.lowlevel.checkpoint()
        return input

    @app.component
    def outer(input):
        return inner(input)

    assert await perform(app, "/outer", 5) == Succeeded(5)


async def test_context_variables_do_not_go_from_call_to_call(slots, task):
    app = Components()

    @app.component
    async def rename(input):
        seen = NAME.get()
        NAME.set(input)
        await anyio.lowlevel.checkpoint()
        return [seen, NAME.get()]

    plugin = FunctionsPlugin(app)
    async with plugin.open():
        assert await plugin.perform(task("rename", "a"), slots) == Succeeded(["nobody", "a"])
        assert await plugin.perform(task("rename", "b"), slots) == Succeeded(["nobody", "b"])


@pytest.mark.parametrize("raised", [SystemExit(3), StopIteration(), ExceptionGroup("g", [OSError("disk")])])
@pytest.mark.parametrize("color", ["async", "sync"])
async def test_whatever_a_component_raises_is_its_failure(perform, raised, color):
    app = Components()

    if color == "async":

        @app.component
        async def fail(input):
            raise raised
    else:

        @app.component
        def fail(input):
            raise raised

    assert isinstance(await perform(app, "/fail"), Failed)


async def test_the_traceback_begins_in_the_users_code(perform):
    app = Components()

    @app.component
    def fail(input):
        raise ValueError("no")

    outcome = await perform(app, "/fail")

    first = outcome.data["traceback"].strip().splitlines()[0]
    assert "test_functions.py" in first
    assert first.endswith("in fail")


async def test_awaiting_something_cancelled_is_a_failure(perform, anyio_backend):
    if anyio_backend != "asyncio":
        return  # on Trio nobody but Trio can make a Cancelled
    import asyncio

    app = Components()

    @app.component
    async def careless(input):
        task = asyncio.ensure_future(asyncio.sleep(10))
        task.cancel()
        await task

    assert (await perform(app, "/careless")).code is ErrorCode.COMPONENT_FAILED


async def test_max_concurrency_bounds_the_calls_and_waiting_holds_no_slot(slots, task):
    app = Components()
    running = 0
    most = 0
    order: list[int] = []

    @app.component("/one", max_concurrency=1)
    async def one(input):
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(input)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        running -= 1

    plugin = FunctionsPlugin(app)
    async with plugin.open(), anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(plugin.perform, task("one", number), slots)
            await anyio.wait_all_tasks_blocked() if number == 0 else await anyio.lowlevel.checkpoint()

    assert most == 1
    assert sorted(order) == list(range(5))
    assert set(slots.waits) == {"max_concurrency of /one"}


async def test_threads_are_limited_and_waiting_for_one_holds_no_slot(slots, task):
    app = Components()
    gate = threading.Event()

    @app.component
    def block(input):
        gate.wait(60)
        return input

    plugin = FunctionsPlugin(app, threads=2)
    async with plugin.open(), anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(plugin.perform, task("block", number), slots)
        while not slots.waiting_now:
            await anyio.lowlevel.checkpoint()
        assert slots.waits == ["a thread"]
        gate.set()


async def test_a_cancelled_thread_keeps_its_place_until_it_ends(slots, task):
    app = Components()
    started, gate = threading.Event(), threading.Event()
    seen: list[bool] = []

    @app.component
    def block(input, ctx: Context):
        started.set()
        gate.wait(60)
        seen.append(ctx.cancelled)
        return input

    plugin = FunctionsPlugin(app, threads=1)
    async with plugin.open(), anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(_cancel_when, scope, started)
            await plugin.perform(task("block", 1), slots)
        assert scope.cancelled_caught
        tasks.start_soon(plugin.perform, task("block", 2), slots)
        while not slots.waiting_now:
            await anyio.lowlevel.checkpoint()
        gate.set()

    assert seen == [True, False]


async def test_a_plugin_can_be_left_while_threads_work(slots, task):
    app = Components()
    started, gate = threading.Event(), threading.Event()

    @app.component
    def block(input):
        started.set()
        gate.wait(60)

    plugin = FunctionsPlugin(app)
    async with anyio.create_task_group() as calls:

        async def call() -> None:
            with pytest.raises(anyio.get_cancelled_exc_class()) as raised:
                await plugin.perform(task("block", 1), slots)
            raise raised.value

        async with plugin.open():
            calls.start_soon(call)
            while not started.is_set():
                await anyio.lowlevel.checkpoint()
        calls.cancel_scope.cancel()
    gate.set()


async def _cancel_when(scope: anyio.CancelScope, event: threading.Event) -> None:
    while not event.is_set():
        await anyio.lowlevel.checkpoint()
    scope.cancel()


async def test_a_cancelled_coroutine_is_told_so(slots, task):
    app = Components()
    cleaned: list[str] = []

    @app.component
    async def wait(input, ctx: Context):
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.lowlevel.checkpoint()
            cleaned.append(ctx.step_id)

    plugin = FunctionsPlugin(app)
    async with plugin.open(), anyio.create_task_group() as tasks:
        tasks.start_soon(plugin.perform, task("wait"), slots)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert cleaned == ["the_step"]


async def test_fifty_nested_calls_need_no_fifty_places():
    app = Components()

    @app.component("/down", max_concurrency=1)
    async def down(input: dict, ctx: Context) -> int:
        if input["n"] == 0:
            return 0
        return 1 + await ctx.evaluate(input["flow"], {**input, "n": input["n"] - 1})

    @app.component("/down_in_threads")
    def down_in_threads(input: dict, ctx: Context) -> int:
        if input["n"] == 0:
            return 0
        return 1 + ctx.sync.evaluate(input["flow"], {**input, "n": input["n"] - 1})

    async with Engine(app, max_concurrency=1) as engine:
        for path in ("/down", "/down_in_threads"):
            assert await engine.run(flow_of(path), {"n": 50, "flow": flow_of(path)}) == 50


async def test_both_kinds_nested_in_each_other_finish():
    app = Components()

    @app.component("/even", max_concurrency=1)
    async def even(input: dict, ctx: Context) -> int:
        return 0 if input["n"] == 0 else 1 + await ctx.evaluate(input["odd"], {**input, "n": input["n"] - 1})

    @app.component("/odd", max_concurrency=1)
    def odd(input: dict, ctx: Context) -> int:
        return 0 if input["n"] == 0 else 1 + ctx.sync.evaluate(input["even"], {**input, "n": input["n"] - 1})

    given = {"even": flow_of("/even"), "odd": flow_of("/odd"), "n": 20}
    async with Engine(app, max_concurrency=2) as engine:
        results = [result async for result in engine.run_batch(flow_of("/even"), [given] * 4)]

    assert [result.output for result in results] == [20] * 4


async def test_a_registry_may_grow_while_it_is_served(slots, task):
    app = Components()

    @app.component
    async def first(input):
        return 1

    plugin = FunctionsPlugin(app)
    async with plugin.open():
        before = plugin.components({})
        assert plugin.components({}) is before

        @app.component("/late/{x}")
        async def second(input, x):
            return x

        assert [info.path for info in plugin.components({})] == ["/first", "/late/{x}"]
        assert await plugin.perform(task("/late/a"), slots) == Succeeded("a")


async def test_a_plugin_that_is_not_open_says_so(slots, task):
    plugin = FunctionsPlugin(Components())

    with pytest.raises(RuntimeError, match="not open"):
        await plugin.perform(task("x"), slots)


async def test_raising_a_component_error_of_a_sub_run_keeps_its_code():
    app = Components()

    @app.component
    async def missing(input):
        raise ComponentError("no such row", code=ErrorCode.RESOURCE_UNAVAILABLE, data={"row": 3})

    @app.component
    async def outer(input: dict, ctx: Context):
        return await ctx.evaluate(input, None)

    async with Engine(app) as engine:
        results = [result async for result in engine.run_batch(flow_of("/outer"), [flow_of("/missing")])]

    assert results[0].error.code is ErrorCode.RESOURCE_UNAVAILABLE
    assert results[0].error.message == "no such row"
