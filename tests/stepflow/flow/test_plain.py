"""Values of any origin as plain JSON."""

from collections import OrderedDict
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest

from stepflow.flow.fields import Findings
from stepflow.flow.plain import plain_json


class Colour(StrEnum):
    RED = "red"


def copied(value: Any) -> Any:
    findings = Findings()
    copy = plain_json(value, findings)
    assert findings.problems == []
    return copy


def refused(value: Any) -> list[str]:
    findings = Findings()
    plain_json(value, findings)
    return [f"{problem.path} {problem.message}" for problem in findings.problems]


@pytest.mark.parametrize(
    ("value", "copy"),
    [
        (3.0, 3),
        (-0.0, 0),
        (1e18, 10**18),
        (2.0**63, 2.0**63),
        (0.5, 0.5),
        (True, True),
        (2**64 - 1, 2**64 - 1),
        (Colour.RED, "red"),
        ((1, 2.0), [1, 2]),
        (MappingProxyType({"a": OrderedDict(b=1.0)}), {"a": {"b": 1}}),
    ],
)
def test_a_value_becomes_plain_json(value: Any, copy: Any) -> None:
    found = copied(value)

    assert found == copy
    assert type(found) is type(copy)


def test_the_copy_shares_nothing_with_the_original() -> None:
    original: dict[str, Any] = {"a": [1]}

    copy = copied(original)
    original["a"].append(2)

    assert copy == {"a": [1]}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [float("nan")]}, "$.a[0] JSON has no nan"),
        ({"a": float("-inf")}, "$.a JSON has no -inf"),
        ({"a": 2**64}, "$.a an integer does not fit in 64 bits"),
        ({"a": -(2**63) - 1}, "$.a an integer does not fit in 64 bits"),
        ({"a": b"x"}, "$.a a value of type bytes is not JSON"),
        ({"a": {1: 2}}, "$.a a key is a string, not 1"),
        ({"a": "\ud800"}, "$.a a string holds half of a surrogate pair"),
        ({"\ud800": 1}, "$ a string holds half of a surrogate pair"),
        ([{1, 2}], "$[0] a value of type set is not JSON"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(value: Any, problem: str) -> None:
    assert refused(value) == [problem]


def test_a_value_that_holds_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["a"] = [value, value]

    assert refused(value) == ["$.a[0] the value holds itself", "$.a[1] the value holds itself"]


def test_deep_nesting_is_refused() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]

    assert [problem.split(" ", 1)[1] for problem in refused(value)] == ["nested deeper than 100 levels"]


def test_the_same_objects_over_and_over_are_refused_at_some_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepflow.flow.plain._MAX_VALUES", 10_000)
    value: Any = [1]
    for _ in range(50):
        value = [value, value]

    assert refused(value) == ["$ the document has more than 10,000 values"]
