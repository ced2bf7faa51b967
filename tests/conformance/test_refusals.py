"""What is refused before it starts leaves nothing behind, and how strict the checks are."""

import logging

import pytest

from stepflow.errors import FlowInvalidError, InputInvalidError

pytestmark = pytest.mark.anyio

TYPED = {
    "schemas": {
        "properties": {
            "input": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            "variables": {"properties": {"who": {"type": "string"}}, "required": ["who"]},
        }
    },
    "output": [{"$input": "n"}, {"$variable": "who", "default": "nobody"}],
}
UNUSABLE = {"schemas": {"properties": {"input": {"type": "nonsense"}}}, "output": {"$input": "$"}}
LATER = {"id": "a", "component": "/echo", "input": {"$step": "b"}}

REFUSED = {
    "a flow that is none": ({"steps": 5}, [1], {}),
    "a reference to nothing": ({"output": {"$step": "x"}}, [1], {}),
    "a reference forward": ({"steps": [LATER, {"id": "b", "component": "/echo"}]}, [1], {}),
    "an old key": ({"output": {"$from": "x"}}, [1], {}),
    "an unknown step in overrides": ({"output": 1}, [1], {"overrides": {"x": {"input": 1}}}),
    "an override that breaks the flow": (
        {"steps": [{"id": "a", "component": "/echo"}], "output": {"$step": "a"}},
        [1],
        {"overrides": {"a": {"id": "b"}}},
    ),
    "a missing variable": (TYPED, [{"n": 1}], {}),
    "a variable of another type": (TYPED, [{"n": 1}], {"variables": {"who": 5}}),
    "an input of another type": (TYPED, [{"n": 1}, {"n": "2"}], {"variables": {"who": "me"}}),
    "an input schema that is none": (UNUSABLE, [1], {}),
    "an input that is no JSON": ({"output": 1}, [float("nan")], {}),
    "a setting that is none": (
        {"steps": [{"id": "a", "component": "/echo", "timeout": {"$variable": "t"}}]},
        [1],
        {"variables": {"t": "x"}},
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
async def test_a_run_that_is_refused_leaves_no_record_and_no_event(make_engine, seen, name):
    flow, inputs, options = REFUSED[name]
    async with make_engine() as engine:
        with pytest.raises((FlowInvalidError, InputInvalidError)):
            await engine.submit(flow, inputs, **options)

        assert await engine.list_runs() == []

    assert seen.events == []


async def test_a_misfit_names_item_path_and_rule(make_engine):
    async with make_engine() as engine:
        with pytest.raises(InputInvalidError) as caught:
            await engine.submit(TYPED, [{"n": 1}, {"n": "2"}, {}], variables={"who": "me"})

    first, second = caught.value.problems
    assert ("item 1" in first.message, "rule type" in first.message, first.path) == (True, True, "$.n")
    assert ("item 2" in second.message, "rule required" in second.message) == (True, True)


@pytest.mark.parametrize("where", ["engine", "run"])
@pytest.mark.parametrize("mode", ["warn", "off"])
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_does_not_fit_is_a_warning_or_nothing_where_that_is_asked_for(
    make_engine, caplog, where, mode, is_streamed
):
    options = {"validation": mode}
    inputs = [{"n": "two"}]
    async with make_engine(**(options if where == "engine" else {})) as engine:
        run = await engine.submit(TYPED, iter(inputs) if is_streamed else inputs, **(options if where == "run" else {}))
        await run.wait()

        assert (await run.result(0)).output == ["two", "nobody"]

    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == (2 if mode == "warn" else 0)
    assert all("who" in text or "item 0" in text for text in warned)
    assert not any("error" in text for text in warned)


@pytest.mark.parametrize("mode", ["warn", "off"])
async def test_an_input_schema_that_is_none_refuses_only_where_it_is_strict(make_engine, caplog, mode):
    async with make_engine(validation=mode) as engine:
        assert await engine.run(UNUSABLE, 1) == 1

    assert ("input schema" in caplog.text) is (mode == "warn")


async def test_a_streamed_input_that_does_not_fit_is_a_failed_item(make_engine):
    async with make_engine() as engine:
        results = [
            result async for result in engine.run_batch(TYPED, iter([{"n": 1}, {"n": "2"}]), variables={"who": "me"})
        ]

    assert [result.ok for result in results] == [True, False]
    assert results[1].error.message == 'item 1: "2" is not of type "integer" (rule type) ($.n)'


@pytest.mark.parametrize(("mode", "ok"), [("strict", False), ("warn", True), ("off", True)])
async def test_an_output_that_does_not_fit_fails_only_where_that_is_asked_for(make_engine, caplog, mode, ok):
    flow = {"schemas": {"properties": {"output": {"type": "integer"}}}, "output": "text"}
    async with make_engine(output_validation=mode) as engine:
        run = await engine.submit(flow, [1])
        await run.wait()

        assert (await run.result(0)).ok is ok

    assert ("output schema" in caplog.text) is (mode == "warn")


async def test_without_being_told_inputs_are_strict_and_outputs_warn(make_engine, caplog):
    flow = {**TYPED, "schemas": {"properties": {**TYPED["schemas"]["properties"], "output": {"type": "object"}}}}
    async with make_engine() as engine:
        with pytest.raises(InputInvalidError):
            await engine.run(flow, {"n": 1})
        assert await engine.run(flow, {"n": 1}, variables={"who": "me"}) == [1, "me"]

    assert "output schema" in caplog.text
