"""What expressions come to in a running flow: failures, null, laziness, variables, paths."""

import uuid

import pytest

from stepflow.errors import RunFailedError
from stepflow.execution.events import StepStarted
from stepflow.records import ErrorCode

pytestmark = pytest.mark.anyio

RISKY = {"id": "risky", "component": "/fail", "input": "COMPONENT_FAILED"}
NULL = {"id": "null", "component": "/echo", "input": None}
FULL = {"id": "full", "component": "/echo", "input": {"a": [1, {"b": None}], "x.y": 3, "": 4}}

OUTPUTS = [
    ({"$if": {"$step": "risky"}, "then": 1, "else": 2}, 2),
    ({"$if": {"$step": "risky"}, "then": 1}, None),
    ({"$if": {"$input": "missing"}, "then": 1, "else": 2}, 2),
    ({"$if": False, "then": 1, "else": 2}, 2),
    ({"$if": None, "then": 1, "else": 2}, 2),
    *(({"$if": {"$literal": value}, "then": 1, "else": 2}, 1) for value in (0, 0.0, "", "false", [], {}, True)),
    ({"$if": True, "then": {"$step": "null"}, "else": {"$step": "risky"}}, None),
    ({"$coalesce": []}, None),
    ({"$coalesce": [None, {"$step": "null"}, False, 1]}, False),
    ({"$coalesce": [{"$step": "null", "path": "any.thing[3]"}, 5]}, 5),
    ({"$coalesce": [1, {"$step": "risky"}]}, 1),
    ({"$coalesce": [{"$step": "risky"}, 1]}, ErrorCode.COMPONENT_FAILED),
    ({"$step": "null", "path": "$.a.b[0]"}, None),
    ({"$step": "full", "path": "a[1].b"}, None),
    ({"$step": "full", "path": "$.a[1].b.c"}, ErrorCode.EXPRESSION_FAILURE),
    ({"$step": "full", "path": "a[2]"}, ErrorCode.EXPRESSION_FAILURE),
    ({"$step": "full", "path": "a[0].x", "default": 1}, ErrorCode.EXPRESSION_FAILURE),
    ({"$step": "full", "path": '$["x.y"]'}, 3),
    ({"$step": "full", "path": '$[""]'}, 4),
    ({"$step": "full", "path": "x.y"}, ErrorCode.EXPRESSION_FAILURE),
    ([1, {"$step": "risky"}], ErrorCode.COMPONENT_FAILED),
    ([None, {"a": {"$step": "null"}}], [None, {"a": None}]),
    ({"$literal": {"$step": "nobody"}, "$if": 5}, {"$step": "nobody"}),
    ({"$foo": {"$step": "null"}}, {"$foo": None}),
    ("{{ $step.full }}", "{{ $step.full }}"),
    ({"$variable": "given.deep[0]"}, 7),
    ({"$variable": "$.given.nothing", "default": {"$step": "full", "path": "a[0]"}}, 1),
    ({"$variable": "given.nothing"}, ErrorCode.EXPRESSION_FAILURE),
    ({"$variable": "empty", "default": 1}, None),
    ({"$variable": "empty.below", "default": 1}, 1),
    ({"$variable": "declared"}, 12),
    ({"$variable": "implied", "default": "not this"}, ""),
    ({"$variable": "listed", "default": "not this"}, None),
    ({"$variable": "object", "default": "this"}, "this"),
    ({"$variable": "", "default": 1}, ErrorCode.ORCHESTRATOR_ERROR),
    ({"$variable": "$[0]", "default": 1}, ErrorCode.ORCHESTRATOR_ERROR),
    ({"$input": "$"}, {"a": 1}),
    ({"$input": None}, {"a": 1}),
    ({"$input": "b"}, ErrorCode.EXPRESSION_FAILURE),
]


@pytest.mark.parametrize(("output", "expected"), OUTPUTS, ids=lambda value: str(value)[:60])
async def test_an_output_comes_to_what_the_language_says(make_engine, output, expected):
    declared = {
        "declared": {"default": 12},
        "implied": {"type": "string"},
        "listed": {"type": ["string", "null"]},
        "object": {"type": "object"},
    }
    flow = {
        "schemas": {"properties": {"variables": {"properties": declared}}},
        "steps": [RISKY, NULL, FULL],
        "output": output,
    }
    async with make_engine() as engine:
        try:
            found = await engine.run(flow, {"a": 1}, variables={"given": {"deep": [7]}, "empty": None})
        except RunFailedError as error:
            found = error.code

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("output", "run"),
    [
        ({"$if": {"$step": "yes"}, "then": {"$step": "a"}, "else": {"$step": "b"}}, {"yes", "a"}),
        ({"x": {"$step": "yes"}, "y": {"$if": {"$step": "yes"}, "then": 1, "else": {"$step": "b"}}}, {"yes"}),
        ({"$coalesce": [{"$step": "no"}, {"$step": "a"}, {"$step": "b"}]}, {"no", "a"}),
        ({"$variable": "absent", "default": {"$step": "a"}}, {"a"}),
        ({"$variable": "given", "default": {"$step": "a"}}, set()),
        ({"$if": {"$coalesce": [{"$step": "no"}, {"$step": "yes"}]}, "then": {"$step": "b"}}, {"no", "yes", "b"}),
        ("nothing", set()),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value)[:60],
)
async def test_only_the_steps_that_are_needed_run(make_engine, seen, output, run):
    values = {"yes": True, "no": None, "a": 1, "b": 2}
    steps = [{"id": name, "component": "/echo", "input": value} for name, value in values.items()]
    async with make_engine() as engine:
        await engine.run({"steps": steps, "output": output}, variables={"given": 1})

    names = list(values)
    assert {names[event.step] for event in seen.of(StepStarted)} == run


async def test_an_inherited_failure_is_the_same_to_the_letter(make_engine):
    steps = [RISKY, {"id": "next", "component": "/echo", "input": [{"$step": "risky", "path": "deep"}]}]
    async with make_engine() as engine:
        run = await engine.submit(
            {"steps": steps, "output": {"a": {"$step": "next"}}}, [1], overrides={"next": {"mustExecute": True}}
        )
        await run.wait()
        error = (await run.result(0)).error

    assert (error.code, error.message) == (ErrorCode.COMPONENT_FAILED, "COMPONENT_FAILED, as asked")


@pytest.mark.parametrize("id", ["workflow_output", "a b", "a.b/c", "$", "🦆", "steps"])
async def test_no_step_id_is_reserved(make_engine, id):
    flow = {"steps": [{"id": id, "component": "/echo", "input": 5}], "output": {"$step": id}}
    async with make_engine() as engine:
        assert await engine.run(flow) == 5


async def test_a_run_id_is_a_uuid_that_sorts_by_time(make_engine, one_step):
    async with make_engine() as engine:
        ids = [(await engine.submit(one_step("/echo"), [1])).id for _ in range(3)]

    assert ids == sorted(ids)
    assert {uuid.UUID(id).version for id in ids} == {7}


async def test_a_flow_has_one_id_however_its_free_form_keys_are_ordered(make_engine):
    one = {"name": "f", "steps": [], "metadata": {"b": 1.0, "a": {"y": 2, "x": 3}}, "output": {"b": 1, "a": 2}}
    other = {"output": {"a": 2, "b": 1.0}, "metadata": {"a": {"x": 3, "y": 2}, "b": 1}, "name": "f", "unknown": 5}
    async with make_engine() as engine:
        assert await engine.store_flow(one) == await engine.store_flow(other)
