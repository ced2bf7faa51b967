"""How JSON becomes an expression."""

import json
from pathlib import Path
from typing import Any

import pytest

from stepflow.errors import FlowInvalidError, Problem
from stepflow.flow.expression import expression_to_json, parse_expression
from stepflow.flow.model import ArrayOf, Coalesce, If, InputRef, Literal, ObjectOf, StepRef, VariableRef

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "expressions.json").read_text(encoding="utf-8")
)["expressions"]


def refused(vector: dict[str, Any]) -> bool:
    return bool(vector.get("recommended", vector["expect"]).get("reject"))


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS if refused(v)])
def test_what_the_language_refuses_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(FlowInvalidError) as caught:
        parse_expression(vector["expr"])

    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS if not refused(v)])
def test_what_the_language_accepts_is_read_and_written_back(vector: dict[str, Any]) -> None:
    expression = parse_expression(vector["expr"])

    assert parse_expression(expression_to_json(expression)) == expression


@pytest.mark.parametrize(
    ("value", "expression"),
    [
        (1, Literal(1)),
        ("$input", Literal("$input")),
        ({"$literal": {"$step": "a"}}, Literal({"$step": "a"}, quoted=True)),
        ({"$step": "a"}, StepRef("a")),
        ({"$step": "a", "path": None}, StepRef("a")),
        ({"$step": "", "path": "x"}, StepRef("", ("x",))),
        ({"$input": None}, InputRef()),
        ({"$variable": "a.b"}, VariableRef(("a", "b"))),
        ({"$variable": "a", "default": None}, VariableRef(("a",), Literal(None))),
        ({"$variable": "a", "default": {"$input": "b"}}, VariableRef(("a",), InputRef(("b",)))),
        ({"$if": 1, "then": 2}, If(Literal(1), Literal(2))),
        ({"$if": 1, "then": 2, "else": None}, If(Literal(1), Literal(2), Literal(None))),
        ({"$coalesce": [1, {"$input": "a"}]}, Coalesce((Literal(1), InputRef(("a",))))),
        ([1, []], ArrayOf((Literal(1), ArrayOf(())))),
        ({"b": 1, "a": {}}, ObjectOf((("b", Literal(1)), ("a", ObjectOf(()))))),
        ({"$foo": {"$input": "q"}}, ObjectOf((("$foo", InputRef(("q",))),))),
    ],
)
def test_each_form_is_recognised(value: Any, expression: Any) -> None:
    assert parse_expression(value) == expression


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"$step": "a", "path": "$"}, {"$step": "a"}),
        ({"path": "r", "$step": "a", "x": 1}, {"$step": "a", "path": "$.r"}),
        ({"$input": ""}, {"$input": "$"}),
        ({"$input": '$["a.b"]'}, {"$input": '$["a.b"]'}),
        ({"default": 1, "$variable": "v"}, {"$variable": "$.v", "default": 1}),
        ({"else": 3, "then": 2, "$if": True}, {"$if": True, "then": 2, "else": 3}),
        ({"$literal": 1, "x": 2}, {"$literal": 1}),
    ],
)
def test_an_expression_is_written_one_way(value: Any, written: Any) -> None:
    assert json.dumps(expression_to_json(parse_expression(value))) == json.dumps(written)


def problems(value: Any) -> list[str]:
    found: list[Problem] = []
    parse_expression(value, ("output",), found)
    return [f"{problem.path} {problem.message}" for problem in found]


def test_every_problem_is_told_with_its_place() -> None:
    value = {
        "a": [{"$input": "$[-1]"}, {"$step": 5, "path": 3}],
        "b": {"$if": {"$coalesce": 1}, "else": 2},
        "c": {"$if": {"$variable": 1}, "then": {"$from": {"step": "s"}}},
    }

    assert [line.split(" ")[0] for line in problems(value)] == [
        "$.output.a[0].$input",
        "$.output.a[1].path",
        "$.output.a[1].$step",
        "$.output.b",
        "$.output.c.$if.$variable",
        "$.output.c.then.$from",
    ]


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ({"$from": {"step": "s"}, "path": "x"}, "write {$step: s, path: …}"),
        ({"$from": {"step": "s"}}, "write {$step: s},"),
        ({"$from": {"workflow": "input"}}, "write {$input: …}"),
        ({"$from": 1}, "wrap it in $literal"),
    ],
)
def test_the_old_from_is_refused_with_its_migration(value: Any, remedy: str) -> None:
    found: list[Problem] = []

    parse_expression(value, (), found)

    assert remedy in (found[0].remedy or "")


@pytest.mark.parametrize(
    ("value", "place", "remedy"),
    [
        ({"$step": "s", "default": 1}, "$.default", "only `$variable` has a default"),
        ({"$input": "a", "path": "b"}, "$.path", "the path is the value of `$input` itself"),
        ({"$step": "s", "$input": "a"}, "$.$input", "nest them"),
        ({"$if": 1, "then": 2, "esle": 3}, "$.esle", "did you mean `else`?"),
        ({"$steps": "s"}, "$.$steps", "did you mean `$step`?"),
        ({"$inptu": "s"}, "$.$inptu", "did you mean `$input`?"),
        ({"$expr": "s"}, "$.$expr", "there is no `$expr`"),
    ],
)
def test_what_is_ignored_or_misspelt_is_warned_about(value: Any, place: str, remedy: str) -> None:
    warnings: list[Problem] = []

    parse_expression(value, (), [], warnings)

    assert [(warning.path, warning.level) for warning in warnings] == [(place, "warning")]
    assert remedy in (warnings[0].remedy or "")


@pytest.mark.parametrize("value", [{"$foo": 1}, {"$blob": "x"}, {"$defs": {}}, {"$ref": "#/a"}, {"$schema": "x"}])
def test_other_keys_with_a_dollar_are_no_reason_to_warn(value: Any) -> None:
    warnings: list[Problem] = []

    parse_expression(value, (), [], warnings)

    assert warnings == []


def test_an_expression_nested_too_deeply_is_refused() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [value]

    with pytest.raises(FlowInvalidError, match="nested deeper than 100 levels"):
        parse_expression(value)
