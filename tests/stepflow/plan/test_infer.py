"""Schemas worked out from components."""

from typing import Any

import pytest

from stepflow.flow.identity import flow_to_json
from stepflow.flow.model import Flow
from stepflow.flow.read import flow_from_json
from stepflow.flow.schema import SchemaValidator, schema_problem
from stepflow.plan.checks import check
from stepflow.plan.infer import infer
from stepflow.plan.types import type_check
from stepflow.records import ComponentInfo

TEXT = {"type": "string"}
COUNT = {"type": "integer"}


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


ROWS = {"type": "array", "items": {"$ref": "#/$defs/Row"}, "$defs": {"Row": record(id=COUNT)}}
TREE = {"$ref": "#/$defs/Tree", "$defs": {"Tree": {"type": "object", "properties": {"kid": {"$ref": "#/$defs/Tree"}}}}}
COMPONENTS = {
    "/count": ComponentInfo(id="a", input_schema=record(text=TEXT), output_schema=record(n=COUNT)),
    "/number": ComponentInfo(id="b", input_schema=COUNT, output_schema={"type": "number"}),
    "/rows": ComponentInfo(id="c", input_schema=ROWS, output_schema=ROWS),
    "/tree": ComponentInfo(id="d", input_schema=TREE, output_schema=TREE),
    "/key": ComponentInfo(id="e", input_schema=record(key={"type": "string", "is_secret": True})),
    "/untyped": ComponentInfo(id="f"),
}


def flow(steps: Any, output: Any = None, **others: Any) -> Flow:
    return flow_from_json({"name": "n", "description": "d", "steps": list(steps), "output": output, **others})


def step(id: str, component: str, input: Any = None, **others: Any) -> dict[str, Any]:
    return {"id": id, "component": component, "input": input, **others}


def test_missing_schemas_are_filled_in() -> None:
    steps = [step("a", "/count", {"text": {"$input": "doc.title"}}), step("u", "/untyped", {"$input": "doc.extra"})]

    inferred = infer(flow(steps, {"n": {"$step": "a", "path": "n"}, "note": ["x", 1]}), COMPONENTS.get)

    schemas = inferred.flow.schemas
    assert schemas.steps == {"a": record(n=COUNT)}
    assert schemas.output == record(n=COUNT, note={"type": "array", "items": {"anyOf": [TEXT, COUNT]}})
    assert schemas.input == {
        "type": "object",
        "properties": {"doc": {"type": "object", "properties": {"title": TEXT, "extra": True}, "required": ["title"]}},
        "required": ["doc"],
    }
    assert inferred.conflicts == ()


def test_what_is_written_stays() -> None:
    schemas = {"properties": {"input": {}, "output": {"type": "object"}, "steps": {"properties": {"a": {}}}}}
    written = flow([step("a", "/count", {"text": {"$input": "t"}})], {"$step": "a"}, schemas=schemas)

    assert infer(written, COMPONENTS.get).flow == written


def test_the_annotated_flow_checks_as_clean_as_before_and_reads_back() -> None:
    steps = [
        step("rows", "/rows", {"$input": "rows"}),
        step("tree", "/tree", {"$input": "tree"}),
        step("n", "/number", {"$step": "rows", "path": "$[0].id"}),
    ]
    annotated = infer(flow(steps, [{"$step": id} for id in ("rows", "tree", "n")]), COMPONENTS.get).flow

    assert [each.code for each in check(annotated) if each.code != 1003] == []
    assert type_check(annotated, COMPONENTS.get) == ()
    assert flow_from_json(flow_to_json(annotated)).schemas == annotated.schemas


@pytest.mark.parametrize(("value", "accepted"), [([{"id": 1}], True), ([{"id": "x"}], False), ([{}], False)])
def test_definitions_of_components_come_along(value: Any, accepted: bool) -> None:
    schemas = infer(flow([step("r", "/rows", {"$input": "$"})], {"$step": "r"}), COMPONENTS.get).flow.schemas

    for schema in (schemas.input, schemas.output, schemas.steps["r"]):
        assert schema_problem(schema, schemas.defs) is None
        assert SchemaValidator(schema, schemas.defs).accepts(value) is accepted


def test_a_type_that_contains_itself_is_written_out() -> None:
    schemas = infer(flow([step("t", "/tree", {"$input": "t"})], {"$step": "t"}), COMPONENTS.get).flow.schemas

    validator = SchemaValidator(schemas.steps["t"], schemas.defs)
    assert validator.accepts({"kid": {"kid": {}}})
    assert not validator.accepts({"kid": {"kid": 1}})


def test_references_to_the_flow_s_definitions_stay_references() -> None:
    schemas = {
        "$defs": {"Row": record(name=TEXT)},
        "properties": {"steps": {"properties": {"u": {"$ref": "#/schemas/$defs/Row"}}}},
    }

    inferred = infer(flow([step("u", "/untyped")], {"row": {"$step": "u"}}, schemas=schemas), COMPONENTS.get)

    assert inferred.flow.schemas.output == record(row={"$ref": "#/schemas/$defs/Row"})


def test_readers_that_agree_narrow_the_input_and_readers_that_do_not_are_reported() -> None:
    steps = [
        step("a", "/number", {"$input": "n"}),
        step("b", "/count", {"text": {"$input": "n"}}),
        step("c", "/number", {"$input": "m"}),
        step("d", "/number", {"$input": "m"}),
    ]

    inferred = infer(flow(steps, [{"$step": id} for id in "abcd"]), COMPONENTS.get)

    (conflict,) = inferred.conflicts
    assert (conflict.code, conflict.path) == (2100, "$.steps[1].input.text")
    assert conflict.data["detail"] == '"a" reads it as integer, "b" as string'
    assert inferred.flow.schemas.input == record(n=True, m=COUNT)


def test_only_what_every_item_reads_is_required() -> None:
    steps = [
        step("sure", "/number", {"$input": "a"}),
        step("maybe", "/number", {"$input": "b"}),
        step("always", "/number", {"$input": "c"}, mustExecute=True),
    ]
    output = {
        "$if": {"$input": "d"},
        "then": {"$step": "maybe"},
        "else": {"$coalesce": [{"$input": "e"}, {"$input": "f"}]},
    }

    schema = infer(flow(steps, [{"$step": "sure"}, output]), COMPONENTS.get).flow.schemas.input

    assert isinstance(schema, dict)
    assert schema["required"] == ["a", "c"]
    assert schema["properties"] == {"a": COUNT, "b": COUNT, "c": COUNT, "d": True, "e": True, "f": True}


def test_items_that_are_read_by_index_are_described_in_place() -> None:
    output = [{"$input": "$[1].x"}, {"$input": "$[0]"}]

    schema = infer(flow([], output), COMPONENTS.get).flow.schemas.input

    assert schema == {"type": "array", "prefixItems": [True, record(x=True)], "minItems": 2}


def test_a_flow_that_reads_nothing_gets_no_input_schema() -> None:
    schemas = infer(flow([step("a", "/untyped", 1)], {"$step": "a"}), COMPONENTS.get).flow.schemas

    assert (schemas.input, schemas.output, schemas.steps) == (None, None, {})


def test_marks_of_secrets_reach_the_input_schema_and_the_texts() -> None:
    inferred = infer(flow([step("k", "/key", {"key": {"$input": "key"}})], {"$step": "k"}), COMPONENTS.get)

    assert inferred.flow.schemas.input == record(key={"type": "string", "is_secret": True})
    assert inferred.steps[0].accepts == "{ key: string [secret] }"


def test_a_default_on_error_is_part_of_the_step_s_type() -> None:
    safe = step("a", "/number", 1, onError={"action": "useDefault", "defaultValue": "none"})

    inferred = infer(flow([safe], {"$step": "a"}), COMPONENTS.get)

    assert inferred.flow.schemas.steps["a"] == {"anyOf": [{"type": "number"}, TEXT]}
    assert (inferred.steps[0].output, inferred.output) == ('number | "none"', 'number | "none"')


def test_the_flow_is_annotated_even_where_types_do_not_fit() -> None:
    inferred = infer(flow([step("a", "/number", "text")], {"$step": "a"}), COMPONENTS.get)

    assert [each.code for each in inferred.diagnostics] == [2100]
    assert inferred.flow.schemas.output == {"type": "number"}


def test_a_field_called_like_a_keyword_is_a_field() -> None:
    odd = record(const=TEXT, enum=COUNT, **{"$ref": TEXT, "$defs": COUNT, "prefixItems": TEXT})
    components = {"/odd": ComponentInfo(id="o", input_schema=odd, output_schema=odd)}

    inferred = infer(flow([step("o", "/odd", {"$input": "$"})], {"$step": "o"}), components.get)

    assert inferred.flow.schemas.output == inferred.flow.schemas.input == inferred.flow.schemas.steps["o"] == odd
    assert inferred.output == "{ const: string, enum: integer, $ref: string, $defs: integer, prefixItems: string }"


@pytest.mark.parametrize("parts", [40, 41, 100_000])
def test_a_path_of_any_length_gives_a_schema_that_a_document_can_hold(parts: int) -> None:
    inferred = infer(flow([], {"$input": "$" + ".a" * parts}), COMPONENTS.get)

    document = flow_to_json(inferred.flow)

    assert flow_to_json(flow_from_json(document)) == document
