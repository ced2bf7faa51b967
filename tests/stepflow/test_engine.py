import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import (
    EngineClosedError,
    FlowInvalidError,
    InputInvalidError,
    RetryAfter,
    RunFailedError,
    RunNotFoundError,
    StoreError,
)
from stepflow.records import ErrorCode, RunStatus

pytestmark = pytest.mark.anyio

TYPED = {
    "schemas": {
        "properties": {
            "input": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            "output": {"type": "integer"},
            "variables": {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]},
        }
    },
    "steps": [{"id": "e", "component": "/echo", "input": {"$input": "n"}}],
    "output": {"$step": "e"},
}
ECHO = {"steps": [{"id": "e", "component": "/echo", "input": {"$input": "$"}}], "output": {"$step": "e"}}


@pytest.fixture
def app() -> Components:
    app = Components()

    @app.component("/echo")
    async def echo(value: Any) -> Any:
        return value

    return app


async def test_a_flow_runs_for_one_input(app: Components) -> None:
    async with Engine(app) as engine:
        assert await engine.run(ECHO, {"a": [1, 2.5, None]}) == {"a": [1, 2.5, None]}


async def test_a_batch_gives_its_results_in_item_order(app: Components) -> None:
    @app.component("/late")
    async def late(value: int) -> int:
        await anyio.sleep(0.01 if value % 7 == 0 else 0)
        return value

    flow = {"steps": [{"id": "e", "component": "/late", "input": {"$input": "$"}}], "output": {"$step": "e"}}
    async with Engine(app) as engine:
        results = [(result.index, result.output) async for result in engine.run_batch(flow, range(500))]

    assert results == [(number, number) for number in range(500)]


async def test_results_come_as_each_item_ends(app: Components) -> None:
    go_on = anyio.Event()

    @app.component("/hold")
    async def hold(value: int) -> int:
        if value == 0:
            await go_on.wait()
        return value

    flow = {"steps": [{"id": "e", "component": "/hold", "input": {"$input": "$"}}], "output": {"$step": "e"}}
    async with Engine(app) as engine:
        run = await engine.submit(flow, [0, 1, 2])
        seen = []
        async for result in run.results(order="completion"):
            seen.append(result.index)
            if len(seen) == 2:
                go_on.set()

    assert sorted(seen[:2]) == [1, 2]
    assert seen[2] == 0


async def test_a_bad_input_refuses_the_whole_batch_and_leaves_no_record(app: Components) -> None:
    async with Engine(app) as engine:
        with pytest.raises(InputInvalidError) as refused:
            await engine.submit(TYPED, [{"n": 1}, {"n": "two"}, {}], variables={"who": "me"})
        runs = await engine.list_runs()

    first, second = refused.value.problems
    assert "item 1" in first.message
    assert (first.path, "type" in first.message) == ("$.n", True)
    assert "item 2" in second.message
    assert runs == []


async def test_a_missing_variable_refuses_the_run(app: Components) -> None:
    async with Engine(app) as engine:
        with pytest.raises(InputInvalidError, match='"who" is required'):
            await engine.submit(TYPED, [{"n": 1}])


async def test_validation_can_be_a_warning_or_nothing(app: Components, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async with Engine(app) as engine:
        warned = await engine.run(TYPED, {"n": "two"}, validation="warn")
        texts = caplog.text
        caplog.clear()
        ignored = await engine.run(TYPED, {"n": 2}, validation="off")

    assert (warned, ignored) == ("two", 2)
    assert "item 0" in texts
    assert "who" in texts
    assert "does not fit the flow's output schema" in texts
    assert caplog.text == ""


async def test_a_strict_output_schema_fails_the_item(app: Components) -> None:
    async with Engine(app, output_validation="strict", validation="off") as engine:
        with pytest.raises(RunFailedError, match="output schema"):
            await engine.run(TYPED, {"n": "two"})


async def test_what_is_no_json_is_refused_by_item_and_path(app: Components) -> None:
    async with Engine(app) as engine:
        with pytest.raises(InputInvalidError, match=r"item 1: .*\$\.x"):
            await engine.submit(ECHO, [1, {"x": float("nan")}])


async def test_a_broken_flow_is_refused_before_anything_is_stored(app: Components) -> None:
    async with Engine(app) as engine:
        with pytest.raises(FlowInvalidError, match='step "nope" is not defined'):
            await engine.submit({"output": {"$step": "nope"}}, [1])
        assert await engine.list_runs() == []


async def test_a_streamed_input_that_does_not_fit_is_a_failed_item(app: Components) -> None:
    async with Engine(app) as engine:
        inputs = iter([{"n": 1}, {"n": "two"}, {"n": 3}, {"n": float("inf")}])
        run = await engine.submit(TYPED, inputs, variables={"who": "me"})
        record = await run.wait()
        codes = [result.error and result.error.code async for result in run.results()]

    assert (record.succeeded, record.failed) == (2, 2)
    assert codes == [None, ErrorCode.INVALID_INPUT, None, ErrorCode.INVALID_INPUT]


async def test_inputs_may_come_one_at_a_time(app: Components) -> None:
    async def trickle() -> AsyncIterator[int]:
        for number in range(20):
            await anyio.sleep(0)
            yield number

    async with Engine(app) as engine:
        run = await engine.submit(ECHO, trickle())
        outputs = [result.output async for result in run.results()]

    assert outputs == list(range(20))


async def test_inputs_that_break_off_end_the_run_with_their_own_error(app: Components) -> None:
    def broken() -> Any:
        yield 1
        raise ZeroDivisionError("the file went away")

    async with Engine(app) as engine:
        run = await engine.submit(ECHO, broken())
        with pytest.raises(ZeroDivisionError):
            await run.wait()
        record = await run.record()

    assert record.status is RunStatus.FAILED


async def test_integers_stay_integers_and_big_ones_stay_big(app: Components) -> None:
    value = [1, 2**63, -(2**70), 1.0, 1e300]

    async with Engine(app) as engine:
        output = await engine.run(ECHO, value)

    assert output == value
    assert [type(part) for part in output] == [int, int, int, float, float]


async def test_user_code_can_change_its_input_without_harm(app: Components) -> None:
    @app.component("/spoil")
    async def spoil(value: dict) -> str:
        value["list"].append("spoilt")
        value.clear()
        return "done"

    steps = [
        {"id": "a", "component": "/echo", "input": {"$input": "$"}},
        {"id": "b", "component": "/spoil", "input": {"$step": "a"}},
        {"id": "c", "component": "/echo", "input": [{"$step": "a"}, {"$step": "b"}]},
    ]
    async with Engine(app) as engine:
        output = await engine.run({"steps": steps, "output": {"$step": "c"}}, {"list": [1]})

    assert output == [{"list": [1]}, "done"]


async def test_overrides_patch_the_steps_and_keep_the_flow_id(app: Components) -> None:
    async with Engine(app) as engine:
        plain = await engine.submit(ECHO, [1])
        patched = await engine.submit(ECHO, [1], overrides={"steps": {"e": {"value": {"input": {"$literal": 9}}}}})
        await patched.wait()
        outputs = [result.output async for result in patched.results()]

    assert outputs == [9]
    assert patched.flow_id == plain.flow_id


async def test_a_secret_never_stands_in_an_error_text(app: Components) -> None:
    @app.component("/leak")
    async def leak(value: str) -> str:
        raise ValueError(f"the key {value} was refused")

    flow = {
        "schemas": {"properties": {"variables": {"properties": {"key": {"type": "string", "is_secret": True}}}}},
        "steps": [{"id": "e", "component": "/leak", "input": {"$variable": "key"}}],
        "output": {"$step": "e"},
    }
    async with Engine(app) as engine:
        with pytest.raises(RunFailedError) as failure:
            await engine.run(flow, None, variables={"key": "hunter2-hunter2"})

    assert "hunter2" not in str(failure.value)
    assert "[REDACTED]" in str(failure.value)


async def test_registries_are_mounted_by_prefix(app: Components) -> None:
    flow = {"steps": [{"id": "e", "component": "/deep/down/echo", "input": 1}], "output": {"$step": "e"}}

    async with Engine({"/deep/down": app}) as engine:
        assert await engine.run(flow) == 1
        routes = [listed.routes for listed in await engine.list_components() if listed.info.path == "/echo"]

    assert routes == [("/deep/down/echo",)]


async def test_an_unknown_run_is_named(app: Components) -> None:
    async with Engine(app) as engine:
        with pytest.raises(RunNotFoundError, match="abc"):
            await engine.cancel("abc")


async def test_an_engine_that_is_not_open_says_so(app: Components) -> None:
    engine = Engine(app)

    with pytest.raises(EngineClosedError, match="async with"):
        await engine.run(ECHO)


async def test_closing_the_engine_wakes_who_waits_for_a_run(app: Components) -> None:
    @app.component("/forever")
    async def forever(value: Any) -> Any:
        await anyio.sleep_forever()

    flow = {"steps": [{"id": "e", "component": "/forever"}], "output": {"$step": "e"}}
    errors: list[type[BaseException]] = []

    async def wait(run: Any) -> None:
        try:
            await run.wait()
        except EngineClosedError as error:
            errors.append(type(error))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks, Engine(app) as engine:
            tasks.start_soon(wait, await engine.submit(flow, [1]))
            await anyio.sleep(0)

    assert errors == [EngineClosedError]


async def test_an_error_inside_the_engines_block_comes_out_plain(app: Components) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Engine(app):
            raise ZeroDivisionError


@pytest.mark.parametrize("options", [{"max_concurrency": 0}, {"validation": "perhaps"}, {"max_concurrency": True}])
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="max_concurrency|validation"):
        Engine(**options)


def test_a_store_that_is_not_installed_is_named() -> None:
    with pytest.raises(StoreError, match="nowhere"):
        Engine(store="nowhere://x")


async def test_progress_reaches_the_observers(app: Components) -> None:
    seen: list[Any] = []

    class Watch:
        def on_event(self, run_id: str, event: object) -> None:
            pass

        def on_progress(self, task: Any, progress: Any) -> None:
            seen.append((task.step_id, progress))

    @app.component("/long")
    async def long(value: Any, ctx: Context) -> Any:
        ctx.progress({"done": 0.5})
        return value

    flow = {"steps": [{"id": "e", "component": "/long"}], "output": {"$step": "e"}}
    async with Engine(app, observers=[Watch()]) as engine:
        await engine.run(flow)

    assert seen == [("e", {"done": 0.5})]


async def test_many_runs_at_once_share_an_engine(app: Components) -> None:
    outputs: dict[int, Any] = {}

    async with Engine(app) as engine, anyio.create_task_group() as tasks:

        async def one(number: int) -> None:
            outputs[number] = await engine.run(ECHO, number)

        for number in range(300):
            tasks.start_soon(one, number)

    assert outputs == {number: number for number in range(300)}


async def test_an_observer_that_fails_harms_nobody(app: Components, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def on_event(self, run_id: str, event: object) -> None:
            raise ZeroDivisionError

        def on_progress(self, task: Any, progress: Any) -> None:
            raise ZeroDivisionError

    async with Engine(app, observers=[Broken()]) as engine:
        assert await engine.run(ECHO, 1) == 1

    assert "an observer failed" in caplog.text


async def test_a_flow_file_is_read_again_when_it_changed(app: Components, tmp_path: Any) -> None:
    path = tmp_path / "flow.yaml"

    async with Engine(app) as engine:
        path.write_text("output: 1")
        first = [await engine.run(path), await engine.run(path)]
        path.write_text("output: 22")
        second = await engine.run(path)

    assert (first, second) == ([1, 1], 22)


async def test_results_that_are_read_once_say_so_the_second_time(app: Components) -> None:
    async with Engine(app) as engine:
        run = await engine.submit(ECHO, iter(range(3_000)), keep_results=False)
        first = [result.output async for result in run.results()]

        with pytest.raises(StoreError, match="keep_results=True"):
            [result async for result in run.results()]

    assert first == list(range(3_000))


async def test_a_back_off_ends_with_its_run(app: Components) -> None:
    @app.component("/limited")
    async def limited(value: Any) -> Any:
        raise RetryAfter(36_000)

    flow = {
        "steps": [{"id": "e", "component": "/limited", "onError": {"action": "retry"}}],
        "output": {"$step": "e"},
    }
    async with Engine(app) as engine:
        run = await engine.submit(flow, [1])
        live = run._live
        assert live is not None
        while not live.scopes:
            await anyio.sleep(0)
        await run.cancel()
        while live.scopes:
            await anyio.sleep(0)

    assert live.tree.sleeping == 0


@pytest.mark.parametrize("rounds", range(12))
async def test_whoever_is_cancelled_in_a_call_leaves_nothing_behind(app: Components, rounds: int) -> None:
    busy: list[int] = []

    @app.component("/hang")
    async def hang(value: int) -> None:
        busy.append(value)
        try:
            await anyio.sleep_forever()
        finally:
            busy.remove(value)

    flow = {"steps": [{"id": "e", "component": "/hang", "input": {"$input": "$"}}], "output": {"$step": "e"}}
    async with Engine(app) as engine:

        async def run() -> None:
            await engine.run(flow, 1)

        async def stream() -> None:
            async for _ in engine.run_batch(flow, iter([3])):
                pass

        async with anyio.create_task_group() as calls:
            calls.start_soon(run)
            calls.start_soon(stream)
            for _ in range(rounds):
                await anyio.lowlevel.checkpoint()
            calls.cancel_scope.cancel()
        for record in await engine.list_runs():
            await (await engine.get_run(record.id)).wait()
        await anyio.wait_all_tasks_blocked()

        assert busy == []
        assert all(record.status is RunStatus.CANCELLED for record in await engine.list_runs())


async def test_a_run_that_is_cancelled_as_the_engine_closes_was_taken_over_by_nobody(
    app: Components, caplog: pytest.LogCaptureFixture
) -> None:
    @app.component("/forever")
    async def forever(value: Any) -> None:
        await anyio.sleep_forever()

    flow = {"steps": [{"id": "f", "component": "/forever"}], "output": {"$step": "f"}}
    async with Engine(app) as engine:
        run = await engine.submit(flow, [1])
        run.cancel_now()

    assert caplog.text == ""
    with pytest.raises(EngineClosedError):
        await run.wait()
