"""Types against types."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepflow.flow.schema import SchemaValidator
from stepflow.plan.notation import type_text
from stepflow.plan.shared_root import SharedRoot
from stepflow.plan.subtype import is_subtype

STRING, INTEGER, NUMBER, NULL = ({"type": name} for name in ("string", "integer", "number", "null"))
POINT = {"type": "object", "properties": {"x": NUMBER, "y": NUMBER}, "required": ["x"], "additionalProperties": False}


def test_anything_fits_anything_and_nothing_is_known_of_anything() -> None:
    assert is_subtype(STRING, True).holds is True
    assert is_subtype(STRING, {"title": "free"}).holds is True
    assert is_subtype(True, STRING).holds is None
    assert is_subtype({"description": "free"}, STRING).holds is None
    assert is_subtype(False, STRING).holds is True
    assert is_subtype(STRING, False).holds is False


@pytest.mark.parametrize(
    ("actual", "expected", "holds"),
    [
        (INTEGER, NUMBER, True),
        (NUMBER, INTEGER, False),
        (INTEGER, STRING, False),
        (INTEGER, {"type": ["string", "number"]}, True),
        ({"type": ["string", "null"]}, STRING, False),
        ({"type": ["string", "null"]}, {"type": ["null", "string", "array"]}, True),
        ({"type": ["string", "null"]}, {"anyOf": [STRING, NULL]}, True),
        ({"anyOf": [STRING, NULL]}, {"type": ["string", "null"]}, True),
        ({"anyOf": [STRING, INTEGER]}, {"anyOf": [NUMBER, STRING]}, True),
        (STRING, {"oneOf": [STRING, NULL]}, True),
        (INTEGER, {"oneOf": [INTEGER, NUMBER]}, None),
        (STRING, {"anyOf": [INTEGER, NULL]}, False),
        ({"const": 3}, INTEGER, True),
        ({"const": 3.0}, INTEGER, True),
        ({"const": 1}, {"const": True}, False),
        ({"enum": ["a", "b"]}, {"enum": ["b", "a", "c"]}, True),
        ({"enum": ["a", "d"]}, {"enum": ["b", "a"]}, False),
        (STRING, {"enum": ["a"]}, False),
        ({"type": "boolean"}, {"enum": [True, False]}, True),
        ({"enum": ["a", 1], "type": "string"}, STRING, True),
        (STRING, {"type": "string", "format": "uri"}, True),
        (STRING, {"type": "string", "pattern": "^a"}, None),
        ({"type": "string", "pattern": "^a"}, {"pattern": "^a", "type": "string"}, True),
        ({"type": "string", "minLength": 3}, {"type": "string", "minLength": 2}, True),
        ({"type": "string", "maxLength": 1}, {"type": "string", "minLength": 2}, False),
        ({"type": "integer", "minimum": 1}, {"type": "number", "exclusiveMinimum": 0}, True),
        (INTEGER, {"type": "integer", "minimum": 0}, None),
        (INTEGER, {"multipleOf": 1}, True),
        (STRING, {"minimum": 3}, True),
        (STRING, {"not": NULL}, None),
        ({"allOf": [{"type": ["string", "null"]}, {"type": ["string", "integer"]}]}, STRING, True),
        (STRING, {"allOf": [STRING, {"maxLength": 3}]}, None),
    ],
)
def test_scalars(actual: Any, expected: Any, holds: bool | None) -> None:
    assert is_subtype(actual, expected).holds is holds


@pytest.mark.parametrize(
    ("actual", "expected", "holds"),
    [
        (POINT, {"type": "object"}, True),
        (POINT, {"type": "object", "properties": {"x": NUMBER}, "required": ["x"]}, True),
        (POINT, {"type": "object", "properties": {"x": INTEGER}}, False),
        (POINT, {"type": "object", "required": ["y"]}, False),
        (POINT, {"type": "object", "required": ["z"]}, False),
        (POINT, {"type": "object", "properties": {"z": STRING}}, True),
        (POINT, {"type": "object", "properties": {"x": NUMBER}, "additionalProperties": False}, False),
        (POINT, {"type": "object", "additionalProperties": NUMBER}, True),
        (POINT, {"type": "object", "additionalProperties": STRING}, False),
        (POINT, {"type": "object", "patternProperties": {"^x": STRING}}, False),
        (POINT, {"type": "object", "maxProperties": 2, "minProperties": 1}, True),
        ({"type": "object"}, POINT, None),
        ({"type": "object", "properties": {"x": NUMBER}, "required": ["x"]}, POINT, None),
        ({"type": "object", "additionalProperties": INTEGER}, {"additionalProperties": NUMBER}, True),
        ({"properties": {"x": STRING}}, {"type": "object", "properties": {"x": NUMBER}}, None),
        (STRING, POINT, False),
        (
            {"type": "object", "properties": {"k": {"enum": ["a", "b"]}}, "required": ["k"]},
            {"anyOf": [{"type": "object", "properties": {"k": {"const": c}}} for c in "ab"]},
            None,
        ),
    ],
)
def test_objects(actual: Any, expected: Any, holds: bool | None) -> None:
    assert is_subtype(actual, expected).holds is holds


@pytest.mark.parametrize(
    ("actual", "expected", "holds"),
    [
        ({"type": "array", "items": INTEGER}, {"type": "array", "items": NUMBER}, True),
        ({"type": "array", "items": NUMBER}, {"type": "array", "items": INTEGER}, False),
        ({"type": "array"}, {"type": "array", "items": INTEGER}, None),
        ({"type": "array", "items": False}, {"type": "array", "items": INTEGER}, True),
        (
            {"type": "array", "prefixItems": [INTEGER, STRING], "items": False, "minItems": 2},
            {"type": "array", "prefixItems": [NUMBER, STRING], "minItems": 2, "maxItems": 2},
            True,
        ),
        (
            {"type": "array", "prefixItems": [INTEGER, STRING], "items": False},
            {"type": "array", "items": INTEGER},
            False,
        ),
        ({"type": "array", "maxItems": 1, "items": INTEGER}, {"type": "array", "prefixItems": [INTEGER, STRING]}, True),
        ({"type": "array", "items": STRING}, {"type": "array", "uniqueItems": True}, None),
    ],
)
def test_arrays(actual: Any, expected: Any, holds: bool | None) -> None:
    assert is_subtype(actual, expected).holds is holds


def test_a_no_says_where_and_why() -> None:
    actual = {"type": "object", "properties": {"rows": {"type": "array", "items": {"type": ["string", "null"]}}}}
    expected = {"type": "object", "properties": {"rows": {"type": "array", "items": STRING}}, "required": ["rows", "n"]}

    answer = is_subtype(actual, expected)

    assert answer.holds is False
    assert [(each.path, each.text) for each in answer.reasons] == [
        ((), 'property "rows" may be missing'),
        ((), 'property "n" is missing'),
        (("rows", "*"), 'null is not of type "string"'),
    ]


def test_an_object_of_which_nothing_is_known_gives_one_reason() -> None:
    answer = is_subtype(
        {"type": "object"}, {"type": "object", "properties": {"a": STRING, "b": STRING}, "required": ["a"]}
    )

    assert answer.holds is None
    assert [each.text for each in answer.reasons] == ["nothing is known of the object's properties"]


def test_references_lead_through_the_documents_of_the_root() -> None:
    root = SharedRoot()
    ours = root.adopt("one", {"$defs": {"Row": POINT}, "type": "array", "items": {"$ref": "#/$defs/Row"}})
    theirs = root.adopt("two", {"definitions": {"Row": {"type": "object"}}, "items": {"$ref": "#/definitions/Row"}})

    assert is_subtype(ours, theirs, root).holds is True
    assert is_subtype(theirs, ours, root).holds is None


def test_types_that_contain_themselves_are_compared() -> None:
    root = SharedRoot()
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}, "required": ["kids"]}
    strict = root.adopt("strict", {**tree, "additionalProperties": False})
    loose = root.adopt("loose", {**tree, "required": []})

    assert is_subtype(strict, loose, root).holds is True
    assert is_subtype(loose, strict, root).holds is False


@pytest.mark.parametrize("loop", [{"$ref": "#"}, {"anyOf": [{"$ref": "#"}, INTEGER]}, {"allOf": [{"$ref": "#"}]}])
def test_a_schema_that_only_names_itself_is_no_trap(loop: Any) -> None:
    root = SharedRoot()
    schema = root.adopt("loop", loop)

    assert is_subtype(STRING, schema, root).holds is not True
    assert is_subtype(schema, STRING, root).holds is not True
    assert type_text(schema, root)


def test_a_reference_to_nothing_cannot_be_told() -> None:
    root = SharedRoot()
    dangling = root.adopt("d", {"$ref": "http://example.com/x"})

    assert is_subtype(STRING, dangling, root).holds is None
    assert is_subtype(dangling, STRING, root).holds is None


def test_older_drafts_mean_what_they_say() -> None:
    root = SharedRoot()
    old = root.adopt(
        "old",
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "array",
            "items": [STRING, INTEGER],
            "additionalItems": False,
        },
    )

    assert is_subtype({"const": ["a", 1]}, old, root).holds is True
    assert is_subtype({"const": ["a", 1, 2]}, old, root).holds is False


def test_a_schema_that_is_no_schema_cannot_be_told() -> None:
    assert is_subtype({"const": 1}, {"type": "nonsense"}).holds is None


def test_huge_unions_and_deep_types_end() -> None:
    wide = {"allOf": [{"anyOf": [{"const": n * m} for m in range(9)]} for n in range(9)]}
    deep: Any = STRING
    for _ in range(3_000):
        deep = {"type": "array", "items": deep}

    assert is_subtype(wide, STRING).holds is None
    assert is_subtype(deep, {"type": "array", "items": deep}).holds is None


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (True, "any"),
        (False, "never"),
        ({"type": "number"}, "number"),
        ({"type": ["integer", "null"]}, "null | integer"),
        ({"type": "string", "is_secret": True}, "string [secret]"),
        (POINT, "{ x: number, y?: number }"),
        ({"type": "object"}, "object"),
        ({"type": "object", "additionalProperties": STRING}, "{ [name]: string }"),
        ({"type": "array", "items": STRING}, "string[]"),
        ({"type": "array", "items": {"anyOf": [STRING, NULL]}}, "(string | null)[]"),
        ({"type": "array"}, "any[]"),
        ({"prefixItems": [STRING, INTEGER], "items": False, "type": "array"}, "[string, integer]"),
        ({"enum": ["a", 1]}, '"a" | 1'),
        ({"const": "hunter2", "is_secret": True}, "string [secret]"),
    ],
)
def test_types_are_written_in_one_line(schema: Any, text: str) -> None:
    assert type_text(schema) == text


SCALARS: Any = st.sampled_from([None, True, False, 0, 1, 2, 1.5, "", "a", "ab", 1.0])
VALUES: Any = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from("abx"), part, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
LEAVES: Any = st.one_of(
    st.booleans(),
    NAMES.map(lambda name: {"type": name}),
    st.lists(NAMES, min_size=1, max_size=3, unique=True).map(lambda names: {"type": names}),
    VALUES.map(lambda value: {"const": value}),
    st.lists(SCALARS, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    st.fixed_dictionaries({"type": st.just("integer"), "minimum": st.integers(0, 2)}),
    st.fixed_dictionaries({"type": st.just("number"), "exclusiveMinimum": st.integers(0, 2), "maximum": st.just(2)}),
    st.fixed_dictionaries({"type": st.just("string"), "minLength": st.integers(0, 2), "maxLength": st.integers(0, 2)}),
    st.just({"pattern": "^a"}),
    st.just({"multipleOf": 1}),
)


def compound(part: Any) -> Any:
    fields = st.dictionaries(st.sampled_from("ab"), part, max_size=2)
    needed = st.lists(st.sampled_from("ab"), max_size=2, unique=True)
    objects = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": fields},
        optional={"required": needed, "additionalProperties": part, "minProperties": st.integers(0, 2)},
    )
    patterned = st.fixed_dictionaries({"patternProperties": st.fixed_dictionaries({"^a": part})})
    arrays = st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={
            "items": part,
            "prefixItems": st.lists(part, min_size=1, max_size=2),
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(0, 2),
        },
    )
    several = st.lists(part, min_size=1, max_size=3)
    unions = st.sampled_from(["anyOf", "oneOf", "allOf"]).flatmap(lambda key: several.map(lambda all: {key: all}))
    others = st.one_of(
        part.map(lambda each: {"not": each}), st.tuples(part, part).map(lambda p: {"if": p[0], "then": p[1]})
    )
    closed = st.just({"unevaluatedProperties": False, "allOf": [{"properties": {"a": True}}]})
    return st.one_of(objects, arrays, unions, patterned, others, closed)


SCHEMAS: Any = st.recursive(LEAVES, compound, max_leaves=6)


ATOMS: tuple[Any, ...] = (None, True, False, 0, 1, 2, -1, 1.5, 2.0, "", "a", "ab", "abc", "b")
SMALL: tuple[Any, ...] = (None, True, 1, 1.5, "a", [1], {"a": "a"})
POOL: list[Any] = [
    *ATOMS,
    [],
    *([value] for value in ATOMS),
    *([one, other] for one in SMALL for other in SMALL),
    [1, 1, 1],
    {},
    *({key: value} for key in "abx" for value in ATOMS),
    *({"a": one, "b": other} for one in SMALL for other in SMALL),
    *({"b": one, "x": other} for one in SMALL for other in SMALL),
    {"a": 1, "b": 1, "x": 1},
]


def related(pair: tuple[Any, Any]) -> Any:
    """Pairs of schemas of which many fit."""
    one, other = pair
    return st.sampled_from(
        [
            (one, other),
            (one, {"anyOf": [other, one]}),
            (one, {"oneOf": [other, one]}),
            ({"allOf": [one, other]}, one),
            ({"type": "array", "items": one}, {"type": "array", "items": {"anyOf": [one, other]}}),
            ({"properties": {"a": one}, "type": "object"}, {"properties": {"a": {"anyOf": [one, other]}}}),
        ]
    )


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.tuples(SCHEMAS, SCHEMAS).flatmap(related))
def test_what_fits_the_actual_type_fits_the_expected_one_after_a_yes(pair: tuple[Any, Any]) -> None:
    actual, expected = pair
    if is_subtype(actual, expected).holds is not True:
        return
    given_type, wanted_type = SchemaValidator(actual), SchemaValidator(expected)

    for value in POOL:
        assert not given_type.accepts(value) or wanted_type.accepts(value), value


@settings(max_examples=100, deadline=None)
@given(SCHEMAS)
def test_every_type_fits_itself(schema: Any) -> None:
    assert is_subtype(schema, schema).holds is True
    assert type_text(schema)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, SCHEMAS, SCHEMAS)
def test_fitting_is_passed_on(first: Any, second: Any, third: Any) -> None:
    middle, last = {"anyOf": [first, second]}, {"anyOf": [first, second, third]}
    if is_subtype(first, middle).holds is True and is_subtype(middle, last).holds is True:
        assert is_subtype(first, last).holds is not False
