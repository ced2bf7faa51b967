"""What eval, map, iterate and components start: status, variables, validation, ids, deadline."""

from typing import Any

import anyio
import pytest

from stepflow.components import Context
from stepflow.errors import RunFailedError
from stepflow.execution.events import RunEnded, RunStarted, StepRetried, SubRunLinked
from stepflow.records import ErrorCode, RunStatus

pytestmark = pytest.mark.anyio

TYPED = {
    "schemas": {"properties": {"input": {"type": "object", "properties": {"n": {"type": "integer"}}}}},
    "output": {"$input": "n"},
}


def mapped(inner: Any, **options: Any) -> dict[str, Any]:
    """A flow that maps an inner one over its input."""
    step = {"workflow": {"$literal": inner}, "items": {"$input": "$"}, **options}
    return {"steps": [{"id": "it", "component": "/builtin/map", "input": step}], "output": {"$step": "it"}}


def ended(seen, run_id):
    return next(event for of, event in seen.events if of == run_id and isinstance(event, RunEnded))


async def test_the_status_follows_from_the_items_and_not_from_tolerated_steps(make_engine, seen):
    risky = {"id": "risky", "component": "/fail", "input": "COMPONENT_FAILED"}
    tolerated = {"steps": [risky], "output": {"$if": {"$step": "risky"}, "then": 1, "else": "fine"}}
    failing = {"output": {"$input": "nothing"}}
    async with make_engine() as engine:
        fine = await engine.run(mapped(tolerated), [1, 2])
        bad = await engine.run(mapped(failing), [{}])

    assert [result["result"] for result in fine["results"]] == ["fine", "fine"]
    assert bad["failed"] == 1
    children = [link.run_id for link in seen.of(SubRunLinked)]
    assert [ended(seen, child).status for child in children] == [RunStatus.COMPLETED, RunStatus.FAILED]


async def test_a_run_tells_where_its_sub_run_begins_and_ends(make_engine, seen):
    async with make_engine() as engine:
        await engine.run(mapped({"output": {"$input": "$"}}), [7])

    assert seen.kinds() == [
        *["RunStarted", "ItemsAdmitted", "InputsClosed", "StepStarted", "SubRunLinked"],
        *["RunStarted", "ItemsAdmitted", "InputsClosed", "ItemEnded", "RunEnded"],
        *["StepSucceeded", "ItemEnded", "RunEnded"],
    ]
    parent, child = seen.of(RunStarted)
    assert child.parent.run_id == child.root_id == parent.run_id


async def test_variables_are_passed_down_through_flows_that_declare_nothing(make_engine):
    innermost = {"output": {"who": {"$variable": "who"}, "limit": {"$variable": "limit", "default": 9}}}
    outer = mapped(mapped(innermost))
    async with make_engine() as engine:
        answer = await engine.run(outer, [[1]], variables={"who": "me"})

    inner = answer["results"][0]["result"]["results"][0]["result"]
    assert inner == {"who": "me", "limit": 9}


async def test_a_flow_that_allows_no_other_variables_gets_only_its_own(make_engine):
    closed = {
        "schemas": {"properties": {"variables": {"properties": {"a": {}}, "additionalProperties": False}}},
        "output": [{"$variable": "a"}, {"$variable": "b", "default": "not here"}],
    }
    async with make_engine() as engine:
        answer = await engine.run(mapped(closed), [1], variables={"a": 1, "b": 2})

    assert answer["results"][0]["result"] == [1, "not here"]


async def test_what_a_sub_run_is_given_wins_over_what_is_passed_down(make_engine):
    flow = mapped({"output": {"$variable": "who"}}, variables={"who": "you"})
    async with make_engine() as engine:
        assert (await engine.run(flow, [1], variables={"who": "me"}))["results"][0]["result"] == "you"


async def test_a_secret_that_is_passed_down_shows_in_no_message(make_engine, app):
    @app.component("/tell")
    async def tell(value: str) -> None:
        raise ValueError(f"cannot use {value}")

    inner = {
        "steps": [{"id": "t", "component": "/tell", "input": {"$variable": "key"}}],
        "output": {"$step": "t"},
    }
    outer = mapped(inner)
    outer["schemas"] = {"properties": {"variables": {"properties": {"key": {"type": "string", "is_secret": True}}}}}
    async with make_engine() as engine:
        answer = await engine.run(outer, [1], variables={"key": "hunter22"})

    assert answer["results"][0]["error"]["message"] == "cannot use [REDACTED]"


async def test_an_item_that_does_not_fit_the_inner_schema_fails_alone(make_engine):
    async with make_engine() as engine:
        answer = await engine.run(mapped(TYPED), [{"n": 1}, {"n": "two"}, {"n": 3}])

    assert [answer["successful"], answer["failed"]] == [2, 1]
    error = answer["results"][1]["error"]
    assert error["code"] == "INVALID_INPUT"
    assert "item 1" in error["message"]
    assert "type" in error["message"]
    assert "$.n" in error["message"]


async def test_an_inner_run_of_nothing_but_misfits_ends(make_engine):
    async with make_engine() as engine:
        assert (await engine.run(mapped(TYPED), ["x"]))["failed"] == 1


@pytest.mark.parametrize("validation", ["warn", "off"])
async def test_a_sub_run_is_validated_as_its_parent_is(make_engine, caplog, validation):
    inner = {
        "schemas": {
            "properties": {
                "input": {"type": "object", "properties": {"n": {"type": "integer"}}},
                "variables": {"properties": {"key": {"type": "string"}}, "required": ["key"]},
            }
        },
        "output": {"$input": "n"},
    }
    async with make_engine(validation=validation) as engine:
        answer = await engine.run(mapped(mapped(inner)), [[{"n": "two"}]])

    assert answer["results"][0]["result"]["results"][0] == {"outcome": "success", "result": "two"}
    assert ("item 0" in caplog.text) is (validation == "warn")


async def test_a_missing_variable_of_an_inner_flow_is_invalid_input_of_the_step(make_engine):
    inner = {"schemas": {"properties": {"variables": {"properties": {"key": {}}, "required": ["key"]}}}}
    async with make_engine() as engine:
        with pytest.raises(RunFailedError, match='variable "key" is required') as caught:
            await engine.run(mapped(inner), [1])

    assert caught.value.code is ErrorCode.INVALID_INPUT


async def test_an_output_of_a_sub_run_is_held_against_its_schema(make_engine):
    inner = {"schemas": {"properties": {"output": {"type": "integer"}}}, "output": {"$input": "$"}}
    async with make_engine(output_validation="strict") as engine:
        answer = await engine.run(mapped(inner), [1, "x"])

    assert [answer["successful"], answer["failed"]] == [1, 1]


async def test_a_step_that_maps_is_retried_as_any_other(make_engine, seen, app):
    calls = []

    @app.component("/second")
    async def second(value: Any, ctx: Context) -> Any:
        calls.append(ctx.attempt)
        result = await ctx.evaluate({"output": {"$input": "$"}}, value)
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return result

    flow = {
        "steps": [
            {"id": "it", "component": "/second", "input": {"$input": "$"}, "onError": {"action": "retry"}},
        ],
        "output": {"$step": "it"},
    }
    async with make_engine() as engine:
        assert await engine.run(flow, 5) == 5

    assert calls == [1, 2]
    assert len(seen.of(StepRetried)) == 1
    assert len(seen.of(SubRunLinked)) == 1, "the second attempt finds the sub-run of the first"


async def test_calls_at_the_same_moment_with_one_key_are_one_sub_run(make_engine, app, seen, monkeypatch):
    @app.component("/thrice")
    async def thrice(value: Any, ctx: Context) -> list[Any]:
        answers = []

        async def ask() -> None:
            answers.append(await ctx.evaluate({"output": {"$input": "$"}}, value, key="one"))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
        return answers

    async with make_engine() as engine:
        blobs = type(engine.backend.blobs)
        put = blobs.put

        async def slow_put(*args: Any, **options: Any) -> str:
            await anyio.sleep(1)
            return await put(*args, **options)

        monkeypatch.setattr(blobs, "put", slow_put)
        flow = {"steps": [{"id": "t", "component": "/thrice", "input": 7}], "output": {"$step": "t"}}
        assert await engine.run(flow) == [7, 7, 7]

    assert len(seen.of(SubRunLinked)) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"key": 5},
        {"key": "\ud800"},
        {"max_concurrency": 0},
        {"max_concurrency": "x"},
        {"max_concurrency": True},
        {"variables": {"x": object()}},
        {"overrides": {"steps": {}, "more": object()}},
    ],
    ids=lambda options: str(options).partition(" object at ")[0],  # no addresses: workers compare the ids
)
async def test_what_makes_no_sense_fails_the_step_and_nothing_else(make_engine, app, one_step, options):
    @app.component("/ask")
    async def ask(value: Any, ctx: Context) -> Any:
        return len(await ctx.run_flow({"output": 1}, [1], **options))

    async with make_engine() as engine:
        run = await engine.submit(one_step("/ask"), [1])
        with anyio.fail_after(60):
            await run.wait()
        error = (await run.result(0)).error

        assert error.code in (ErrorCode.INVALID_INPUT, ErrorCode.COMPONENT_FAILED)
        assert "output" not in error.message
        assert await engine.run({"output": 1}) == 1


async def test_a_component_below_knows_the_deadline_of_the_whole_run(make_engine, app, one_step):
    @app.component("/when")
    async def when(value: Any, ctx: Context) -> float | None:
        return ctx.deadline

    async with make_engine() as engine:
        above = await engine.run(one_step("/when"), deadline_s=100)
        below = await engine.run(mapped(one_step("/when")), [1], deadline_s=100)

    assert above is not None
    assert below["results"][0]["result"] is not None
