"""Overrides: merge patches of steps."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.errors import InputInvalidError
from stepflow.flow.identity import step_to_json
from stepflow.flow.read import flow_from_json
from stepflow.plan.overrides import apply_overrides, merge_patch

FLOW = flow_from_json(
    {
        "name": "patched",
        "steps": [
            {"id": "fetch", "component": "/fetch", "input": {"url": {"$input": "a.b"}, "limit": 1}},
            {"id": "count", "component": "/count", "input": {"$step": "fetch"}, "mustExecute": True},
        ],
        "output": {"$step": "count"},
    }
)

# The examples of RFC 7396, appendix A.
RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(),
    lambda part: st.lists(part) | st.dictionaries(st.sampled_from("abc"), part),
)


@pytest.mark.parametrize(("target", "patch", "merged"), RFC_7396)
def test_patches_merge_as_the_rfc_says(target: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(target, patch) == merged


@given(JSON, JSON)
def test_patching_twice_changes_nothing_more_and_no_argument_is_changed(target: Any, patch: Any) -> None:
    before = copy.deepcopy((target, patch))

    once = merge_patch(target, patch)

    assert merge_patch(once, patch) == once
    assert (target, patch) == before


def problems_of(overrides: Any) -> list[tuple[str, str]]:
    with pytest.raises(InputInvalidError) as caught:
        apply_overrides(FLOW, overrides)
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("nothing", [None, {}, {"steps": {}}, {"steps": None}])
def test_empty_overrides_leave_the_flow_itself(nothing: Any) -> None:
    assert apply_overrides(FLOW, nothing) is FLOW


@pytest.mark.parametrize(
    "overrides",
    [
        {"steps": {"fetch": {"value": {"input": {"limit": 5.0}}}}},
        {"steps": {"fetch": {"$type": "merge_patch", "value": {"input": {"limit": 5}}}}, "note": "ignored"},
        {"fetch": {"value": {"input": {"limit": 5}}}},
        {"fetch": {"input": {"limit": 5}}},
    ],
)
def test_wrapped_and_flat_forms_patch_the_step(overrides: Any) -> None:
    patched = apply_overrides(FLOW, overrides)

    assert step_to_json(patched.steps[0]) == {
        "id": "fetch",
        "component": "/fetch",
        "input": {"url": {"$input": "$.a.b"}, "limit": 5},
    }
    assert patched.steps[1] == FLOW.steps[1]
    assert FLOW.steps[0] != patched.steps[0]


def test_whole_doubles_become_integers() -> None:
    patched = apply_overrides(
        FLOW, {"steps": {"fetch": {"value": {"onError": {"action": "retry", "maxRetries": 2.0}}}}}
    )

    on_error = patched.steps[0].on_error
    assert on_error is not None
    assert (on_error.max_retries, type(on_error.max_retries)) == (2, int)


def test_null_removes_and_an_expression_gives_way_to_an_object() -> None:
    patched = apply_overrides(
        FLOW, {"steps": {"count": {"value": {"mustExecute": None, "input": {"$step": None, "a": 1}}}}}
    )

    assert step_to_json(patched.steps[1]) == {"id": "count", "component": "/count", "input": {"a": 1}}


def test_a_literal_takes_the_place_of_an_expression() -> None:
    patched = apply_overrides(FLOW, {"steps": {"count": {"value": {"input": {"$literal": 7}}}}})

    assert step_to_json(patched.steps[1])["input"] == {"$literal": 7}


def test_a_step_may_be_called_steps() -> None:
    flow = flow_from_json({"steps": [{"id": "steps", "component": "/x"}], "output": {"$step": "steps"}})

    flat = apply_overrides(flow, {"steps": {"value": {"component": "/y"}}})
    wrapped = apply_overrides(flow, {"steps": {"steps": {"value": {"component": "/y"}}}})

    assert flat == wrapped
    assert flat.steps[0].component == "/y"


def test_every_problem_is_reported_at_once() -> None:
    found = problems_of(
        {
            "steps": {
                "fecth": {"value": {}},
                "fetch": {"$type": "json_patch", "value": []},
                "count": {"value": 5},
            }
        }
    )

    assert found == [
        ("$.overrides.steps.fecth", 'overrides name step "fecth", which the flow does not have'),
        ("$.overrides.steps.fetch.$type", "json_patch is not supported"),
        ("$.overrides.steps.count.value", "a step's patch is an object, not a number"),
    ]


def test_an_unknown_step_suggests_the_one_that_was_meant() -> None:
    with pytest.raises(InputInvalidError, match=r'did you mean "fetch"\?'):
        apply_overrides(FLOW, {"steps": {"fecth": {"value": {}}}})


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        (5, "$.overrides"),
        ({"steps": []}, "$.overrides.steps"),
        ({"steps": {"fetch": []}}, "$.overrides.steps.fetch"),
        ({"steps": {"fetch": {}}}, "$.overrides.steps.fetch"),
        ({"steps": {"fetch": {"input": {}}}}, "$.overrides.steps.fetch"),
        ({"steps": {"fetch": {"$type": "mergePatch", "value": {}}}}, "$.overrides.steps.fetch.$type"),
        ({"fetch": {"inputs": {}}}, "$.overrides.fetch"),
        ({"steps": {"fetch": {"value": None}}}, "$.overrides.steps.fetch.value"),
        ({"steps": {"fetch": {"value": {"component": None}}}}, "$.overrides.steps.fetch.value"),
        ({"steps": {"fetch": {"value": {"component": 4}}}}, "$.overrides.steps.fetch.value.component"),
        ({"steps": {"fetch": {"value": {"input": {"a": {"$if": 1}}}}}}, "$.overrides.steps.fetch.value.input.a"),
        ({"steps": {"fetch": {"value": {"id": ""}}}}, "$.overrides.steps.fetch.value.id"),
        ({"steps": {"fetch": {"value": {"id": "count"}}}}, "$.steps[1].id"),
    ],
)
def test_what_cannot_be_applied_names_its_place(overrides: Any, path: str) -> None:
    assert path in [place for place, _ in problems_of(overrides)]


def test_a_forward_reference_made_by_a_patch_is_refused() -> None:
    ((path, message),) = problems_of({"steps": {"fetch": {"value": {"input": {"limit": {"$step": "count"}}}}}})

    assert path == "$.overrides.steps.fetch.value.input.limit.$step"
    assert message == 'step "count" is listed after step "fetch", which refers to it'


def test_renaming_a_step_that_others_name_is_refused() -> None:
    found = problems_of({"steps": {"fetch": {"value": {"id": "get"}}}})

    assert found == [("$.steps[1].input.$step", 'step "fetch" is not defined, once the overrides are applied')]


def test_the_patched_flow_keeps_name_origin_and_warnings() -> None:
    patched = apply_overrides(FLOW, {"steps": {"fetch": {"value": {"component": "/get"}}}})

    assert patched.steps[0].component == "/get"
    assert (patched.name, patched.origin, patched.warnings) == (FLOW.name, FLOW.origin, FLOW.warnings)


def test_overrides_that_are_nested_too_deeply_are_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = {"a": deep}

    assert problems_of({"steps": {"fetch": {"value": {"input": deep}}}})
