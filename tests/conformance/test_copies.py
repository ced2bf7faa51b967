"""What user code is handed is its own: changing it changes nothing for anybody else."""

from typing import Any

import pytest

from stepflow.components import Context

pytestmark = pytest.mark.anyio

VALUE = {"a": [1]}
FLOWS = {
    "a literal": {"output": {"$literal": VALUE}},
    "an array": {"output": [{"$literal": VALUE}]},
    "a variable's default": {
        "schemas": {"properties": {"variables": {"properties": {"v": {"default": VALUE}}}}},
        "output": {"$variable": "v"},
    },
    "a given variable": {"output": {"$variable": "given"}},
    "the input": {"output": {"$input": "$"}},
    "a step's output": {"steps": [{"id": "s", "component": "/echo", "input": VALUE}], "output": {"$step": "s"}},
    "a default": {
        "steps": [
            {
                "id": "s",
                "component": "/fail",
                "input": "COMPONENT_FAILED",
                "onError": {"action": "useDefault", "defaultValue": VALUE},
            }
        ],
        "output": {"$step": "s"},
    },
}


def spoil(value: Any) -> None:
    (value[0] if isinstance(value, list) else value)["a"].append("spoilt")


@pytest.mark.parametrize("name", list(FLOWS))
async def test_an_output_may_be_changed(make_engine, name):
    flow, variables, input = FLOWS[name], {"given": {"a": [1]}}, {"a": [1]}
    async with make_engine() as engine:
        run = await engine.submit(flow, [input, input], variables=variables)
        await run.wait()
        async for result in run.results():
            assert "spoilt" not in str(result.output)
            spoil(result.output)
        async for result in run.results(order="completion"):
            assert "spoilt" not in str(result.output)

        spoil(await engine.run(flow, input, variables=variables))
        assert "spoilt" not in str(await engine.run(flow, input, variables=variables))

    assert (input, variables) == ({"a": [1]}, {"given": {"a": [1]}})


@pytest.mark.parametrize("source", ["$literal", "$input", "$variable", "$step"])
async def test_an_input_may_be_changed_by_the_component(make_engine, app, source):
    @app.component("/spoil")
    async def spoils(value: dict) -> int:
        spoil(value)
        return len(value["a"])

    sources = {
        "$literal": {"$literal": VALUE},
        "$input": {"$input": "$"},
        "$variable": {"$variable": "given"},
        "$step": {"$step": "first"},
    }
    steps = [{"id": "first", "component": "/echo", "input": VALUE}]
    steps += [{"id": name, "component": "/spoil", "input": sources[source]} for name in ("b", "c")]
    flow = {"steps": steps, "output": [{"$step": "b"}, {"$step": "c"}]}
    async with make_engine() as engine:
        for _ in range(2):
            assert await engine.run(flow, {"a": [1]}, variables={"given": {"a": [1]}}) == [2, 2]


async def test_what_a_sub_run_gives_may_be_changed(make_engine, app):
    inner = {"output": {"$literal": VALUE}}

    @app.component("/twice")
    async def twice(value: Any, ctx: Context) -> Any:
        first = await ctx.evaluate(inner, 1)
        spoil(first)
        return await ctx.evaluate(inner, 2)

    flow = {"steps": [{"id": "t", "component": "/twice"}], "output": {"$step": "t"}}
    async with make_engine() as engine:
        assert await engine.run(flow) == VALUE
        assert await engine.run(flow) == VALUE


def test_the_flows_of_this_module_were_not_changed():
    assert VALUE == {"a": [1]}
