"""A damaged flow is refused with its problems or runs to an end: no other error, and no hang."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from played import QUICK, THOROUGH, Played
from random_flows import flows, values

from stepflow.errors import FlowInvalidError, InputInvalidError
from stepflow.records import ErrorCode

inputs = st.lists(values, min_size=1, max_size=2)
pieces = st.one_of(
    values,
    st.sampled_from(
        [
            {"$step": "s0"},
            {"$step": "s5", "path": "$.a"},
            {"$step": "nobody"},
            {"$step": 1},
            {"$input": "$["},
            {"$variable": "$"},
            {"$if": True},
            {"$coalesce": "x"},
            {"$from": {"step": "s0"}},
            {"action": "retry", "maxRetries": 2},
            {"action": "useDefault"},
            {"action": "skip"},
            {"type": "fibonacci"},
            "/builtin/eval",
            "/builtin/map",
            "/builtin/iterate",
            "/builtin/sleep",
            "/nowhere",
            "no-slash",
            "",
            1e308,
            -1,
            2**63,
            "\ud800",
            float("nan"),
            {"type": "object", "required": ["a"]},
            {"$ref": "#/nowhere"},
        ]
    ),
)
keys = st.sampled_from(
    ("id", "component", "input", "onError", "timeout", "mustExecute", "output", "steps", "schemas", "test", "$if", "x")
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    flow = copy.deepcopy(draw(flows(max_steps=4)))  # a strategy may give the same object again
    for _ in range(draw(st.integers(1, 3))):
        _damage(draw, flow)
    return flow


def _damage(draw: st.DrawFn, flow: Any) -> None:
    node, parent, place = flow, None, None
    for _ in range(draw(st.integers(0, 5))):
        places = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        if not places:
            break
        parent, place = node, draw(st.sampled_from(places))
        node = parent[place]
    if isinstance(node, dict) and draw(st.booleans()):
        node[draw(keys)] = copy.deepcopy(draw(pieces))
    elif parent is not None and draw(st.booleans()):
        parent[place] = copy.deepcopy(draw(pieces))
    elif parent is not None:
        del parent[place]


def check_it_ends(flow: Any, inputs: Any, backend: str = "asyncio") -> None:
    try:
        results = Played(backend, flow, inputs).results
    except (FlowInvalidError, InputInvalidError) as error:
        problems = error.problems
    else:
        _check_results(results, len(inputs))
        return
    assert problems
    assert all(problem.message for problem in problems)


def _check_results(results: Any, count: int) -> None:
    assert [result.index for result in results] == list(range(count))
    codes = [result.error.code for result in results if result.error is not None]
    assert all(isinstance(code, ErrorCode) for code in codes)


@QUICK
@given(flow=damaged(), inputs=inputs)
def test_a_damaged_flow_is_refused_or_ends(flow: Any, inputs: Any) -> None:
    check_it_ends(flow, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@THOROUGH
@given(flow=damaged(), inputs=inputs)
def test_many_damaged_flows_are_refused_or_end(backend: str, flow: Any, inputs: Any) -> None:
    check_it_ends(flow, inputs, backend)


def nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "array" else {"a": value} if kind == "object" else {"$coalesce": [value]}
    return value


@pytest.mark.parametrize("kind", ["array", "object", "coalesce"])
@pytest.mark.parametrize("depth", [50, 150, 300, 3_000, 100_000])
def test_deep_nesting_is_refused_or_runs(depth: int, kind: str) -> None:
    step = {"id": "s0", "component": "/echo", "input": nested(depth, kind)}

    check_it_ends({"steps": [step], "output": {"$step": "s0"}}, [None])


@pytest.mark.parametrize("kind", ["array", "object"])
@pytest.mark.parametrize("depth", [50, 150, 300, 3_000, 100_000])
def test_deeply_nested_inputs_are_refused_or_run(depth: int, kind: str) -> None:
    step = {"id": "s0", "component": "/wrap", "input": {"$input": "$"}}

    check_it_ends({"steps": [step], "output": {"$step": "s0"}}, [nested(depth, kind)])


@pytest.mark.parametrize(
    "input",
    [2**63, -(2**63) - 1, 10**400, 1e308, float("inf"), float("nan"), "\ud800", {"\ud800": 1}, {1: 2}, b"x", {1}],
)
def test_values_at_the_edge_are_refused_or_run(input: Any) -> None:
    step = {"id": "s0", "component": "/echo", "input": {"$input": "$"}}

    check_it_ends({"steps": [step], "output": {"$step": "s0"}}, [input])


@pytest.mark.parametrize("references", [("s0", "s0"), ("s1", "s0"), ("s1", "s1")])
def test_steps_that_wait_for_one_another_are_refused(references: tuple[str, str]) -> None:
    steps = [
        {"id": f"s{index}", "component": "/echo", "input": {"$step": reference}}
        for index, reference in enumerate(references)
    ]

    with pytest.raises(FlowInvalidError):
        Played("asyncio", {"steps": steps, "output": {"$step": "s1"}}, [None])


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    check_it_ends({"output": {"$input": "$"}}, [value])
    check_it_ends({"output": value}, [None])


def test_ten_megabytes_pass_through_a_flow() -> None:
    step = {"id": "s0", "component": "/echo", "input": {"$input": "$"}}
    large = {"a": "x" * 10_000_000}

    (result,) = Played("asyncio", {"steps": [step], "output": {"$step": "s0"}}, [large]).results

    assert result.output == large
