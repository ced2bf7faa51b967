"""The static type check of flows."""

from typing import Any

import pytest

from stepflow.flow.model import Flow
from stepflow.flow.read import flow_from_json, flow_text
from stepflow.plan.checks import Diagnostic, check, located
from stepflow.plan.notation import type_text
from stepflow.plan.types import flow_types, type_check
from stepflow.records import ComponentInfo

TEXT = {"type": "string"}
COUNT = {"type": "integer"}


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


COMPONENTS = {
    "/takes_text": ComponentInfo(id="a", input_schema=record(text=TEXT), output_schema=record(n=COUNT)),
    "/takes_number": ComponentInfo(id="b", input_schema={"type": "number"}, output_schema={"type": ["string", "null"]}),
    "/untyped": ComponentInfo(id="c"),
    "/rows": ComponentInfo(
        id="d",
        input_schema={
            "type": "array",
            "items": {"$ref": "#/$defs/Row"},
            "$defs": {"Row": {"type": "object", "properties": {"id": COUNT}, "required": ["id"]}},
        },
    ),
}


def flow(steps: Any = (), gives: Any = None, /, **schemas: Any) -> Flow:
    return flow_from_json({"steps": list(steps), "output": gives, "schemas": {"properties": schemas}})


def step(id: str, component: str, input: Any = None, **others: Any) -> dict[str, Any]:
    return {"id": id, "component": component, "input": input, **others}


def findings(flow: Flow, *, strict: bool = False) -> list[Diagnostic]:
    return list(type_check(flow, COMPONENTS.get, strict=strict))


def output_type(output: Any, steps: Any = (), /, **schemas: Any) -> str:
    types = flow_types(flow(steps, output, **schemas), COMPONENTS.get)
    return type_text(types.output, types.root)


def test_what_fits_is_not_reported() -> None:
    steps = [
        step("a", "/takes_text", {"text": {"$input": "title"}}),
        step("b", "/takes_number", {"$step": "a", "path": "n"}),
        step("c", "/untyped", {"$step": "b"}),
    ]

    assert findings(flow(steps, {"$step": "c"}, input=record(title=TEXT), output=TEXT)) == []


def test_a_mismatch_has_code_level_path_and_data() -> None:
    (found,) = findings(flow([step("a", "/takes_text", {"text": {"$input": "n"}})], input=record(n=COUNT)))

    assert (found.code, found.kind, found.level, found.path) == (2100, "typeMismatch", "error", "$.steps[0].input.text")
    assert found.data == {
        "step_id": "a",
        "expected": "{ text: string }",
        "actual": "{ text: integer }",
        "detail": "$.text: integer is not string",
    }


def test_a_literal_is_checked_as_the_value_it_is() -> None:
    bad = [{"id": 1}, {"id": "two"}, {}]

    found = findings(flow([step("a", "/rows", bad)]))

    assert [(each.path, each.data["detail"]) for each in found] == [
        ("$.steps[0].input[1].id", '$[1].id: "two" is not of type "integer"'),
        ("$.steps[0].input[2]", '$[2]: property "id" is missing'),
    ]


def test_a_quoted_literal_is_placed_inside_its_quotes() -> None:
    (found,) = findings(flow([step("a", "/rows", {"$literal": [{"id": None}]})]))

    assert found.path == "$.steps[0].input.$literal[0].id"


def test_an_integer_is_a_number_and_a_number_is_no_integer() -> None:
    assert findings(flow([step("a", "/takes_number", {"$input": "$"})], input=COUNT)) == []
    assert findings(flow([], {"$input": "$"}, input={"type": "number"}, output=COUNT))[0].code == 2100


def test_the_output_is_checked_against_its_schema() -> None:
    (found,) = findings(flow([step("b", "/takes_number", 1)], {"r": {"$step": "b"}}, output=record(r=TEXT)))

    assert (found.code, found.path, found.data["step_id"]) == (2100, "$.output.r", "workflow_output")
    assert found.data["detail"] == '$.r: null is not of type "string"'


@pytest.mark.parametrize(
    ("output", "property", "meant"),
    [
        ({"$input": "titel"}, "titel", "title"),
        ({"$step": "a", "path": "m"}, "m", None),
        ({"$variable": "v.dep"}, "dep", "deep"),
        ({"$input": "title.more"}, "more", None),
        ({"$input": "pair[2]"}, "2", None),
    ],
)
def test_a_property_that_is_not_there_is_an_error(output: Any, property: str, meant: str | None) -> None:
    pair = {"type": "array", "prefixItems": [TEXT, TEXT], "items": False}
    checked = flow(
        [step("a", "/takes_text", {"text": "x"})],
        [output],
        input=record(title=TEXT, pair=pair),
        variables={"properties": {"v": record(deep=TEXT)}},
    )

    (found,) = findings(checked)

    assert (found.code, found.level, found.path) == (2101, "error", "$.output[0]")
    assert (found.data["step_id"], found.data["property"]) == ("workflow_output", property)
    assert found.message.endswith("?") is (meant is not None)
    assert meant is None or found.message.endswith(f'did you mean "{meant}"?')


@pytest.mark.parametrize(("default", "code"), [({"default": 1}, 2004), ({}, 2005)])
def test_an_undeclared_variable_is_reported_as_the_checks_report_it(default: Any, code: int) -> None:
    checked = flow([], {"$variable": "w", **default}, variables={"properties": {"v": TEXT}})

    (found,) = findings(checked)

    assert (found.code, found.path, found.data) == (code, "$.output", {"variable": "w", "context": "workflow_output"})
    assert found in check(checked)


def test_strict_reports_what_cannot_be_told() -> None:
    checked = flow([step("a", "/untyped"), step("b", "/takes_text", {"text": {"$step": "a"}})])

    (found,) = findings(checked, strict=True)

    assert findings(checked) == []
    assert (found.code, found.kind, found.level) == (1101, "typeCheckIndeterminate", "warning")
    assert (found.path, found.data["step_id"]) == ("$.steps[1].input.text", "b")
    assert found.data["reason"] == "$.text: nothing is known of the value's type"


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (1, "1"),
        (["a", {"$input": "n"}], '["a", integer]'),
        ({"k": {"$input": "n"}}, "{ k: integer }"),
        ([], "never[]"),
        ({"$input": "$"}, "{ n: integer, maybe: null | string, free: any }"),
        ({"$input": "free.x[3]"}, "any"),
        ({"$if": True, "then": {"$input": "n"}}, "integer | null"),
        ({"$if": True, "then": {"$input": "n"}, "else": "x"}, 'integer | "x"'),
        ({"$coalesce": [{"$input": "maybe"}, {"$input": "n"}]}, "string | integer"),
        ({"$coalesce": [{"$input": "maybe"}, None]}, "string | null"),
        ({"$coalesce": [{"$input": "free"}, {"$input": "maybe"}]}, "any | string"),
        ({"$coalesce": []}, "null"),
        ({"$variable": "limit"}, "integer"),
        ({"$variable": "needed", "default": "d"}, "integer"),
        ({"$variable": "absent", "default": "d"}, 'object | "d"'),
        ({"$step": "s"}, "null | string"),
        ({"$step": "s", "path": "x"}, "null"),
        ({"$step": "typed", "path": "y"}, "integer"),
        ({"$step": "safe"}, '{ n: integer } | "none"'),
    ],
)
def test_expressions_have_types(output: Any, text: str) -> None:
    steps = [
        step("s", "/takes_number", 1),
        step("typed", "/takes_text", {"text": ""}),
        step("safe", "/takes_text", {"text": ""}, onError={"action": "useDefault", "defaultValue": "none"}),
    ]
    maybe = {"type": ["string", "null"]}
    variables = {
        "properties": {"limit": COUNT, "needed": COUNT, "absent": {"type": "object"}},
        "required": ["needed"],
    }

    found = output_type(
        output,
        steps,
        input=record(n=COUNT, maybe=maybe, free=True),
        variables=variables,
        steps={"properties": {"typed": record(y=COUNT)}},
    )

    assert found == text


def test_null_from_a_step_is_no_missing_property() -> None:
    steps = [step("s", "/c")]
    maybe = {"anyOf": [record(x=TEXT), {"type": "null"}]}

    found = output_type({"$step": "s", "path": "x"}, steps, steps={"properties": {"s": maybe}})

    assert found == "string | null"


def test_definitions_of_the_flow_and_of_components_do_not_mix() -> None:
    checked = flow_from_json(
        {
            "schemas": {
                "$defs": {"Row": {"type": "object", "properties": {"id": TEXT}, "required": ["id"]}},
                "properties": {"input": {"type": "array", "items": {"$ref": "#/schemas/$defs/Row"}}},
            },
            "steps": [step("a", "/rows", {"$input": "$"})],
        }
    )

    (found,) = findings(checked)

    assert found.data["detail"] == "$[*].id: string is not integer"
    assert found.path == "$.steps[0].input"


def test_references_inside_conditions_are_checked_too() -> None:
    (found,) = findings(
        flow([], {"$if": {"$input": "x"}, "then": {"$coalesce": [1, 2]}}, input=record(y=TEXT)),
    )

    assert (found.code, found.path) == (2101, "$.output.condition")


def test_forward_references_and_schemas_that_are_none_end_in_nothing_known() -> None:
    checked = flow(
        [step("a", "/takes_text", {"$step": "b"}), step("b", "/x")], input={"type": 5}, output={"$ref": "#/x"}
    )

    assert [each.code for each in findings(checked)] == []


def test_a_mismatch_has_its_line_and_column() -> None:
    text = "steps:\n  - id: a\n    component: /takes_text\n    input:\n      text: 5\n"
    checked = flow_text(text, name="f.yaml")

    (problem,) = located(type_check(checked, COMPONENTS.get), checked)

    assert str(problem) == (
        'f.yaml:5:13: error 2100: the input of step "a" does not fit component "/takes_text": '
        '$.text: 5 is not of type "string"; expected: { text: string }'
    )
