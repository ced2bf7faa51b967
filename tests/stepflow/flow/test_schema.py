"""Values against schemas, schemas themselves, and secret marks."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.flow.schema import (
    SchemaError,
    SchemaValidator,
    SecretMarks,
    Violation,
    pointer_text,
    resolve_ref,
    schema_document,
    schema_problem,
    secret_paths,
)

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
}


def test_a_value_that_fits_has_no_violations() -> None:
    validator = SchemaValidator(PERSON)

    assert validator.accepts({"name": "Ann", "age": 3})
    assert validator.violations({"name": "Ann", "age": 3}) == []


def test_a_violation_names_path_rule_and_value() -> None:
    validator = SchemaValidator(PERSON)

    found = validator.violations({"name": 7, "age": -1})

    assert found == [
        Violation(("age",), "minimum", "-1 is less than the minimum of 0"),
        Violation(("name",), "type", '7 is not of type "string"'),
    ]


def test_a_missing_field_is_a_violation_of_required() -> None:
    found = SchemaValidator({"type": "object", "properties": {"in": PERSON}}).violations({"in": {}})

    assert [(each.path, each.rule) for each in found] == [(("in",), "required")]
    assert "name" in found[0].message


@pytest.mark.parametrize("value", [3, 3.0, -0.0, 10**15])
def test_a_whole_number_is_an_integer_however_it_is_written(value: float) -> None:
    assert SchemaValidator({"type": "integer"}).accepts(value)


def test_a_fraction_is_no_integer() -> None:
    assert not SchemaValidator({"type": "integer"}).accepts(3.5)


@pytest.mark.parametrize(("schema", "accepted"), [(True, True), (None, True), (False, False)])
def test_boolean_schemas_accept_all_or_nothing(schema: Any, accepted: bool) -> None:
    validator = SchemaValidator(schema)

    assert validator.accepts({"a": 1}) is accepted
    assert [each.rule for each in validator.violations(1)] == ([] if accepted else ["false"])


@pytest.mark.parametrize("ref", ["#/schemas/$defs/Row", "#/$defs/Row"])
def test_references_find_the_definitions_of_the_flow(ref: str) -> None:
    validator = SchemaValidator({"type": "array", "items": {"$ref": ref}}, {"Row": {"type": "object"}})

    assert validator.accepts([{}])
    assert [each.path for each in validator.violations([{}, 1])] == [(1,)]


def test_definitions_may_refer_to_each_other_and_to_themselves() -> None:
    defs = {
        "Tree": {"type": "object", "properties": {"children": {"items": {"$ref": "#/schemas/$defs/Tree"}}}},
        "Forest": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
    }
    validator = SchemaValidator({"$ref": "#/$defs/Forest"}, defs)

    assert validator.accepts([{"children": [{"children": []}]}])
    assert not validator.accepts([{"children": [{"children": [4]}]}])


def test_a_schema_s_own_definitions_win() -> None:
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}}

    assert SchemaValidator(schema, {"A": {"type": "integer"}}).accepts("text")


@pytest.mark.parametrize("uri", ["http://example.com/x.json", "file:///etc/passwd", "other.json"])
def test_nothing_is_ever_fetched(uri: str) -> None:
    problem = schema_problem({"$ref": uri})

    assert problem == f"it refers to {uri}, and schemas are never fetched"


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ({"type": "nonsense"}, "nonsense"),
        ({"properties": {"a": {"minLength": -1}}}, "$.properties.a.minLength"),
        ({"pattern": "("}, "regex"),
        ({"$ref": "#/$defs/Nope"}, "#/$defs/Nope, which does not exist"),
        ("string", "a schema is an object or a boolean"),
        (5, "a schema is an object or a boolean"),
    ],
)
def test_an_invalid_schema_says_what_is_wrong(schema: Any, part: str) -> None:
    problem = schema_problem(schema)

    assert problem is not None
    assert part in problem
    with pytest.raises(SchemaError, match="."):
        SchemaValidator(schema)


def test_a_valid_schema_has_no_problem() -> None:
    assert schema_problem(PERSON) is None
    assert schema_problem(True) is None


def test_what_cannot_be_looked_at_is_refused_and_not_raised() -> None:
    deep: Any = 1
    for _ in range(3000):
        deep = {"a": deep}
    validator = SchemaValidator({"type": "string"})

    assert [each.rule for each in validator.violations(object())] == ["limits"]
    assert validator.violations(deep)


def test_a_long_value_is_cut_in_the_message() -> None:
    (found,) = SchemaValidator({"type": "integer"}).violations("x" * 10_000)

    assert len(found.message) < 200


def test_a_secret_value_is_never_part_of_a_message() -> None:
    schema = {"properties": {"key": {"type": "string", "minLength": 20, "is_secret": True}}}

    (found,) = SchemaValidator(schema).violations({"key": "hunter2"})

    assert found == Violation(("key",), "minLength", '[REDACTED] does not satisfy "minLength"')


def test_a_value_that_holds_a_secret_is_shown_without_it() -> None:
    schema = {
        "anyOf": [{"required": ["user"]}, {"type": "null"}],
        "properties": {"login": {"properties": {"key": {"is_secret": True}}}},
    }

    (found,) = SchemaValidator(schema).violations({"login": {"key": "hunter2", "host": "db"}})

    assert "hunter2" not in found.message
    assert '{"login":{"key":"[REDACTED]","host":"db"}}' in found.message


def test_what_lies_below_a_mark_is_reported_at_the_mark() -> None:
    schema = {"properties": {"login": {"is_secret": True, "properties": {"pin": {"type": "integer"}}}}}

    (found,) = SchemaValidator(schema).violations({"login": {"pin": "s3cret"}})

    assert found.path == ("login",)
    assert "s3cret" not in found.message


def test_secret_paths_go_through_properties_items_references_and_branches() -> None:
    schema = {
        "properties": {
            "key": {"is_secret": True},
            "users": {"type": "array", "items": {"$ref": "#/$defs/User"}},
            "pair": {"prefixItems": [{}, {"is_secret": True}]},
            "either": {"anyOf": [{"type": "null"}, {"properties": {"token": {"is_secret": True}}}]},
            "by_name": {"additionalProperties": {"is_secret": True}},
            "open": {"type": "string"},
        },
    }
    defs = {"User": {"properties": {"password": {"is_secret": True}, "friend": {"$ref": "#/$defs/User"}}}}

    found = secret_paths(schema, defs)

    assert found == (
        ("key",),
        ("users", "*", "password"),
        ("pair", 1),
        ("either", "token"),
        ("by_name", "*"),
    )


def test_masks_follow_a_definition_that_contains_itself() -> None:
    defs = {"User": {"properties": {"password": {"is_secret": True}, "friend": {"$ref": "#/$defs/User"}}}}
    marks = SecretMarks(schema_document({"$ref": "#/$defs/User"}, defs))
    user = {"password": "one", "friend": {"password": "two", "friend": {"password": ["three"], "name": "x"}}}

    assert list(marks.scalars(user)) == ["one", "two", "three"]
    assert marks.depth(("friend", "friend", "password", 0)) == 3
    assert marks.masked(user)["friend"]["friend"] == {"password": "[REDACTED]", "name": "x"}  # type: ignore[index,call-overload]


def test_a_schema_that_only_names_itself_ends() -> None:
    assert secret_paths({"$ref": "#"}) == ()
    assert SecretMarks({"$ref": "#", "anyOf": [{"$ref": "#"}], "is_secret": False}).depth(("a", "b")) is None


def test_a_definition_may_have_any_name() -> None:
    name = "a/b ~%c"
    ref = f"#/$defs/{pointer_text(name)}"

    assert resolve_ref(ref, {"$defs": {name: 1}}) == 1
    assert SchemaValidator({"$ref": ref}, {name: {"type": "string"}}).accepts("text")
    assert not SchemaValidator({"$ref": ref}, {name: {"type": "string"}}).accepts(1)


def test_references_are_json_pointers() -> None:
    document = {"a/b": {"~x": [1, {"y": 2}]}}

    assert resolve_ref("#/a~1b/~0x/1/y", document) == 2
    assert resolve_ref("#/nothing", document) is None
    assert resolve_ref("http://elsewhere", document) is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda part: st.lists(part)))
def test_violations_are_found_exactly_where_the_value_is_not_accepted(value: Any) -> None:
    validator = SchemaValidator({"type": ["array", "null"], "items": {"type": ["integer", "array"]}})

    assert bool(validator.violations(value)) is not validator.accepts(value)


def test_importing_the_module_loads_no_validator() -> None:
    code = "import stepflow.flow.schema, sys; sys.exit('jsonschema_rs' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0


@pytest.mark.parametrize(("value", "shown"), [("hunter2!", "a string"), (["hunter2!"], "an array")])
def test_a_secret_in_place_of_what_should_hold_it_is_not_shown(value: Any, shown: str) -> None:
    schema = {"type": "object", "properties": {"token": {"type": "string", "is_secret": True}}}

    [violation] = SchemaValidator(schema).violations(value)

    assert violation.message == f'{shown} is not of type "object"'
