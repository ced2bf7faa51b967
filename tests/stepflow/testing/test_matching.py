"""Expected and actual outcomes."""

import pytest

from stepflow.flow.model import Expected, ExpectedError
from stepflow.records import Json
from stepflow.testing.matching import difference, expected_json, matches, normalise, outcome_matches


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": 1}, {"a": 1, "more": True}),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2], "c": 3}}),
        ([{"a": 1}], [{"a": 1, "more": 2}]),
        (1, 1.0),
        (None, None),
        ({}, {"a": 1}),
    ],
)
def test_everything_expected_is_there(expected: Json, actual: Json) -> None:
    assert matches(expected, actual)
    assert difference(expected, actual) == ""


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": 1}, {"b": 1}),
        ([1], [1, 2]),
        ([1, 2], [2, 1]),
        (1, True),
        (0, False),
        ("1", 1),
        (None, False),
        ({"a": None}, {}),
        ([], {}),
        ({}, []),
        ({}, None),
    ],
)
def test_anything_else_differs_and_shows_how(expected: Json, actual: Json) -> None:
    assert not matches(expected, actual)
    assert difference(expected, actual).startswith("--- expected\n+++ actual\n")


def test_what_changes_from_run_to_run_is_evened_out() -> None:
    value = {"b": [{"run_id": "0193", "backtrace": ["x"]}], "a": {"run_id": 7}}

    assert normalise(value) == {
        "a": {"run_id": 7},
        "b": [{"run_id": "00000000-0000-0000-0000-000000000000"}],
    }
    assert list(normalise(value)) == ["a", "b"]


def test_a_diff_shows_only_what_was_expected() -> None:
    expected = {"outcome": "success", "result": {"total": 2, "items": [{"id": 1}]}}
    actual = {"outcome": "success", "result": {"total": 3, "items": [{"id": 1.0, "more": "x" * 200}], "more": 1}}

    shown = difference(expected, actual)

    assert shown == (
        "--- expected\n+++ actual\n@@ -2,4 +2,4 @@\n result:\n   items:\n     - id: 1\n-  total: 2\n+  total: 3\n"
    )


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        ({"code": "COMPONENT_FAILED", "message": "no"}, True),
        ({"code": "COMPONENT_FAILED", "message": "no", "data": {"a": 1, "b": 2}}, True),
        ({"code": "COMPONENT_FAILED", "message": "no, but longer"}, False),
        ({"code": "TIMEOUT", "message": "no"}, False),
    ],
)
def test_a_failure_matches_by_code_and_message(error: Json, passes: bool) -> None:
    expected = expected_json(Expected(error=ExpectedError(code="COMPONENT_FAILED", message="no")))

    assert outcome_matches(expected, {"outcome": "failed", "error": error}) is passes


def test_data_of_a_failure_matches_in_part() -> None:
    expected = expected_json(Expected(error=ExpectedError(code="TIMEOUT", message="m", data={"a": 1})))
    error = {"code": "TIMEOUT", "message": "m"}

    assert outcome_matches(expected, {"outcome": "failed", "error": {**error, "data": {"a": 1, "b": 2}}})
    assert not outcome_matches(expected, {"outcome": "failed", "error": error})
