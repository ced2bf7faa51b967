import anyio.lowlevel
import pytest

import stepflow
from stepflow.errors import RunFailedError
from stepflow.flow.identity import flow_id
from stepflow.flow.read import flow_from_json
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import ErrorCode, ParentLink, RunStatus

DOUBLE = {
    "steps": [{"id": "twice", "component": "/double", "input": {"n": {"$input": "n"}}}],
    "output": {"$step": "twice", "path": "n"},
}


@pytest.fixture
def app():
    components = stepflow.Components()

    @components.component("/double")
    async def double(input: dict) -> dict:
        if input["n"] < 0:
            raise stepflow.ComponentError("negative")
        return {"n": input["n"] * 2}

    @components.component("/count-down")
    async def count_down(n: int) -> dict:
        return {"next": n - 1} if n else {"result": "lift-off"}

    return components


def one_step(component, input, **step):
    return {"steps": [{"id": "s", "component": component, "input": input, **step}], "output": {"$step": "s"}}


@pytest.mark.anyio
async def test_a_flow_is_stored_and_evaluated_in_one_flow(app):
    flow = {
        "steps": [
            {
                "id": "put",
                "component": "/builtin/put_blob",
                "input": {"data": {"$literal": DOUBLE}, "blob_type": "flow"},
            },
            {
                "id": "eval",
                "component": "/builtin/eval",
                "input": {"flow_id": {"$step": "put", "path": "blob_id"}, "input": {"n": {"$input": "$"}}},
            },
        ],
        "output": {"$step": "eval"},
    }

    async with stepflow.Engine(app) as engine:
        output = await engine.run(flow, 4)
        sub_run = await engine.get(output["run_id"])

    assert output["result"] == {"outcome": "success", "result": 8}
    assert sub_run.status is RunStatus.COMPLETED


@pytest.mark.anyio
async def test_a_sub_run_is_linked_to_the_step_that_made_it_and_its_flow_is_stored(app):
    flow = one_step("/builtin/map", {"workflow": {"$literal": DOUBLE}, "items": [{"n": 1}, {"n": -1}]})

    async with stepflow.Engine(app) as engine:
        run = await engine.submit(flow, [None])
        (result,) = [result async for result in run.results()]
        (sub_run,) = await engine.backend.runs.list(parent_id=run.id)
        stored = await engine.backend.blobs.get(sub_run.flow_id)

    doubled, refused = result.output["results"]
    assert doubled == {"outcome": "success", "result": 2}
    assert (refused["error"]["code"], refused["error"]["message"]) == ("COMPONENT_FAILED", "negative")
    assert (result.output["successful"], result.output["failed"]) == (1, 1)
    assert sub_run.root_id == run.id
    assert sub_run.parent == ParentLink(run_id=run.id, item=0, step=0, key="map")
    assert sub_run.flow_id == flow_id(flow_from_json(DOUBLE))
    assert stored is not None


@pytest.mark.anyio
async def test_a_map_deeper_than_its_slots_comes_to_its_end(app):
    inner = DOUBLE
    for _ in range(5):
        inner = one_step("/builtin/map", {"workflow": {"$literal": inner}, "items": [{"n": 1}, {"n": 2}]})

    async with stepflow.Engine(app, max_concurrency=1) as engine:
        output = await engine.run(inner, None)

    assert (output["successful"], output["failed"]) == (2, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [1, 3])
async def test_a_map_keeps_to_its_own_limit(app, limit):
    running, most = 0, 0

    @app.component("/measured")
    async def measured(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        running -= 1
        return n

    inner = {"$literal": one_step("/measured", {"$input": "$"})}
    input = {"workflow": inner, "items": list(range(10)), "max_concurrency": limit}

    async with stepflow.Engine(app) as engine:
        output = await engine.run(one_step("/builtin/map", input), None)

    assert output["successful"] == 10
    assert most == limit


@pytest.mark.anyio
async def test_an_iteration_runs_turn_by_turn(app):
    turn = one_step("/count-down", {"$input": "$"})
    flow = one_step("/builtin/iterate", {"flow": {"$literal": turn}, "initial_input": {"$input": "$"}})

    async with stepflow.Engine(app) as engine:
        output = await engine.run(flow, 3)

    assert output == {"result": "lift-off", "iterations": 4, "terminated": False}


@pytest.mark.anyio
async def test_variables_are_passed_down_and_may_be_given(app):
    inner = {
        "schemas": {
            "type": "object",
            "properties": {"variables": {"type": "object", "properties": {"v": {"type": "string"}}}},
        },
        "output": {"$variable": "v"},
    }
    flow = {
        "schemas": inner["schemas"],
        "steps": [
            {
                "id": "passed",
                "component": "/builtin/map",
                "input": {"workflow": {"$literal": inner}, "items": [1]},
            },
            {
                "id": "given",
                "component": "/builtin/map",
                "input": {"workflow": {"$literal": inner}, "items": [1], "variables": {"v": "own"}},
            },
        ],
        "output": [
            {"$step": "passed", "path": "$.results[0].result"},
            {"$step": "given", "path": "$.results[0].result"},
        ],
    }

    async with stepflow.Engine(app) as engine:
        output = await engine.run(flow, None, variables={"v": "outer"})

    assert output == ["outer", "own"]


@pytest.mark.anyio
async def test_overrides_change_the_inner_flow(app):
    overrides = {"steps": {"twice": {"value": {"input": {"n": {"$input": None, "$literal": 50}}}}}}
    input = {"workflow": {"$literal": DOUBLE}, "items": [{"n": 1}], "overrides": {"$literal": overrides}}

    async with stepflow.Engine(app) as engine:
        output = await engine.run(one_step("/builtin/map", input), None)

    assert output["results"] == [{"outcome": "success", "result": 100}]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "inner",
    [
        {"output": {"$step": "missing"}},
        {"steps": {}},
        {"steps": [{"id": "a", "component": "/x", "input": {"$step": "b"}}, {"id": "b", "component": "/x"}]},
    ],
)
async def test_a_flow_that_cannot_be_run_is_invalid_input_with_its_problems(app, inner):
    flow = one_step("/builtin/map", {"workflow": {"$input": "$"}, "items": [1]})

    async with stepflow.Engine(app) as engine:
        with pytest.raises(RunFailedError) as caught:
            await engine.run(flow, inner)

    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert caught.value.data["problems"]


@pytest.mark.anyio
async def test_a_failure_of_a_turn_covers_the_step_by_its_default(app):
    turn = one_step("/double", {"n": {"$input": "$"}})
    input = {"flow": {"$literal": turn}, "initial_input": -1}
    flow = one_step("/builtin/iterate", input, onError={"action": "useDefault", "defaultValue": "none"})

    async with stepflow.Engine(app) as engine:
        assert await engine.run(flow, None) == "none"


@pytest.mark.anyio
async def test_a_retried_iteration_goes_on_at_the_turn_that_failed(app):
    seen = []

    @app.component("/flaky")
    async def flaky(n: int) -> dict:
        seen.append(n)
        if n == 1 and seen.count(1) < 3:
            raise stepflow.RetryAfter(0)
        return {"next": n + 1} if n < 2 else {"result": n}

    input = {"flow": {"$literal": one_step("/flaky", {"$input": "$"})}, "initial_input": 0}
    flow = one_step("/builtin/iterate", input, onError={"action": "retry", "maxRetries": 3})

    async with stepflow.Engine(app) as engine:
        output = await engine.run(flow, None)

    assert output == {"result": 2, "iterations": 3, "terminated": False}
    assert seen == [0, 1, 1, 1, 2]


@pytest.mark.anyio
async def test_the_catch_all_of_the_production_page_leads_to_the_builtins():
    routes = {"/{*component}": [{"plugin": "builtin"}]}

    async with stepflow.Engine(plugins={"builtin": BuiltinPlugin}, routes=routes) as engine:
        plain = await engine.run(one_step("/noop", {"n": 1}), None)
        prefixed = await engine.run(one_step("/builtin/noop", {"n": 1}), None)

    assert plain == prefixed == {"n": 1}
