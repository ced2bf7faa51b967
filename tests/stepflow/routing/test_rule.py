import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.records import Json
from stepflow.routing.rule import Condition, Rule, equal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (7, 7.0, True),
        (True, 1, False),
        (0, False, False),
        (None, False, False),
        ("7", 7, False),
        ({"k": [1, {"x": 2.0}]}, {"k": [1.0, {"x": 2}]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, 2], [2, 1], False),
        ([True], [1], False),
        (2**53, 2**53 + 1, False),
    ],
)
def test_values_are_compared_as_json_has_them(left: Json, right: Json, expected: bool) -> None:
    assert equal(left, right) is expected


@given(JSON)
def test_a_value_equals_itself(value: Json) -> None:
    assert equal(value, value)


def test_a_condition_whose_path_is_not_there_does_not_hold() -> None:
    condition = Condition(("a", 0), None)

    assert not condition.holds({})
    assert not condition.holds({"a": []})
    assert not condition.holds(None)
    assert condition.holds({"a": [None]})


@pytest.mark.parametrize(
    ("override", "expected"),
    [("/embed", "/embed"), ("embed", "/embed"), ("/v2/{component}", "/v2/x/y"), ("{{{component}}}", "/{x/y}")],
)
def test_an_override_may_use_what_the_route_captured(override: str, expected: str) -> None:
    rule = Rule(plugin="a", component=override)

    assert rule.hands_on("/x/y", {"component": "x/y"}) == expected
