import json
from pathlib import Path
from typing import Any

import pytest

from stepflow.errors import FlowInvalidError
from stepflow.flow.read import flow_from_json
from stepflow.plan.compile import build_plan, compile_flow
from stepflow.plan.evaluate import plan_expression
from stepflow.plan.model import PENDING, EvaluationFailedError
from stepflow.plan.variables import resolve_variables
from stepflow.records import ErrorCode, Failed

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "expressions.json").read_text())["expressions"]


def _expected(vector: dict[str, Any]) -> dict[str, Any]:
    return vector.get("recommended", vector["expect"])


def _flow(vector: dict[str, Any]) -> dict[str, Any]:
    steps = [{"id": id, "component": "/builtin/noop"} for id in vector["steps"]]
    probe = {"id": "probe of the vector", "component": "/builtin/noop", "input": vector["expr"]}
    flow: dict[str, Any] = {"steps": [*steps, probe], "output": {"$step": "probe of the vector"}}
    if vector.get("schemas") is not None:
        flow["schemas"] = vector["schemas"]
    elif vector.get("variables_schema") is not None:
        flow["schemas"] = {"type": "object", "properties": {"variables": vector["variables_schema"]}}
    return flow


def _outputs(vector: dict[str, Any]) -> list[Any]:
    outputs: list[Any] = []
    for step in vector["steps"].values():
        if "value" in step:
            outputs.append(step["value"])
        else:
            error = step.get("error", step.get("failed", step))
            outputs.append(Failed(ErrorCode(error["code"]), error.get("message", "")))
    return [*outputs, PENDING]


def _equal(one: Any, other: Any) -> bool:
    return json.dumps(_as_doubles(one), sort_keys=True) == json.dumps(_as_doubles(other), sort_keys=True)


def _as_doubles(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_doubles(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_doubles(item) for key, item in value.items()}
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_an_expression_means_what_its_vector_says(vector: dict[str, Any]) -> None:
    expected = _expected(vector)

    if "reject" in expected:
        with pytest.raises(FlowInvalidError):
            flow_from_json(_flow(vector))
        return
    flow = flow_from_json(_flow(vector))
    if "fatal" in expected:
        with pytest.raises(FlowInvalidError) as refused:
            compile_flow(flow)
        assert set(expected["fatal"]) <= {problem.code for problem in refused.value.problems}
        return

    plan = build_plan(flow)
    variables = resolve_variables(flow, vector["variables"], validation="off").values
    evaluate = plan.steps[-1].input.evaluate
    if "error_code" in expected:
        with pytest.raises(EvaluationFailedError) as failure:
            evaluate(_outputs(vector), vector["input"], variables)
        assert failure.value.failed.code == expected["error_code"]
    else:
        assert _equal(evaluate(_outputs(vector), vector["input"], variables), expected["value"])


def test_an_inherited_failure_is_the_same_failure() -> None:
    failed = Failed(ErrorCode.COMPONENT_FAILED, "no", {"why": [1]})
    plan = build_plan(flow_from_json({"steps": [{"id": "a", "component": "/x"}], "output": {"y": {"$step": "a"}}}))

    with pytest.raises(EvaluationFailedError) as failure:
        plan.output.evaluate([failed], None, {})

    assert failure.value.failed is failed


def test_needs_come_one_layer_at_a_time() -> None:
    flow = flow_from_json(
        {
            "steps": [{"id": id, "component": "/x"} for id in "abc"],
            "output": {"$if": {"$step": "a"}, "then": {"$step": "b"}, "else": {"$step": "c"}},
        }
    )
    needs = build_plan(flow).output.needs

    assert needs([PENDING, PENDING, PENDING], None, {}) == (0,)
    assert needs([True, PENDING, PENDING], None, {}) == (1,)
    assert needs([Failed(ErrorCode.TIMEOUT, ""), PENDING, PENDING], None, {}) == (2,)
    assert needs([True, "b", PENDING], None, {}) == ()


def test_the_default_of_a_variable_is_needed_only_where_the_variable_is_absent() -> None:
    flow = flow_from_json(
        {"steps": [{"id": "a", "component": "/x"}], "output": {"$variable": "$.v.deep", "default": {"$step": "a"}}}
    )
    needs = build_plan(flow).output.needs

    assert needs([PENDING], None, {}) == (0,)
    assert needs([PENDING], None, {"v": {"deep": 1}}) == ()
    assert needs([PENDING], None, {"v": {}}) == (0,)


def test_a_plan_without_conditions_knows_its_needs_beforehand() -> None:
    steps = [
        {"id": "a", "component": "/x"},
        {"id": "unused", "component": "/x"},
        {"id": "b", "component": "/x", "input": [{"$step": "a"}, {"$step": "a"}]},
        {"id": "c", "component": "/x", "input": {"$step": "a"}, "mustExecute": True},
    ]

    plan = build_plan(flow_from_json({"steps": steps, "output": {"$step": "b"}}))

    assert plan.static is not None
    assert plan.static.ready == (0,)
    assert plan.static.open == 3
    assert plan.static.dependents[0] == (2, 3)


def test_an_unknown_step_fails_only_when_it_is_evaluated() -> None:
    flow = flow_from_json({"output": {"$if": {"$input": "x"}, "then": {"$step": "nobody"}}})

    planned = plan_expression(flow.output, {})

    assert planned.evaluate([], {"x": False}, {}) is None
    with pytest.raises(EvaluationFailedError):
        planned.evaluate([], {"x": True}, {})
