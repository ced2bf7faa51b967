"""Types of what is found at a path."""

from typing import Any

import pytest

from stepflow.flow.model import Path
from stepflow.plan.notation import type_text
from stepflow.plan.projection import Missing, project
from stepflow.plan.shared_root import SharedRoot

TEXT = {"type": "string"}
CLOSED = {"type": "object", "properties": {"a": TEXT}, "additionalProperties": False}
LISTED = {"type": "object", "properties": {"a": TEXT}}
PAIR = {"type": "array", "prefixItems": [TEXT, {"type": "integer"}], "items": False}


@pytest.mark.parametrize(
    ("schema", "path", "text"),
    [
        (True, ("a", 0, "b"), "any"),
        (LISTED, ("a",), "string"),
        ({"type": "object"}, ("x",), "any"),
        ({"type": "object", "additionalProperties": TEXT}, ("x",), "string"),
        ({**LISTED, "additionalProperties": True}, ("x",), "any"),
        ({"patternProperties": {"^x": TEXT}}, ("x1",), "string"),
        ({"type": "array", "items": TEXT}, (7,), "string"),
        (PAIR, (1,), "integer"),
        ({"anyOf": [LISTED, {"type": "object", "properties": {"a": {"type": "null"}}}]}, ("a",), "string | null"),
        ({"anyOf": [LISTED, TEXT]}, ("a",), "string"),
        ({"allOf": [LISTED, {"properties": {"b": TEXT}}]}, ("b",), "string"),
        ({"const": {"a": [1, "x"]}}, ("a", 1), '"x"'),
        ({"enum": [{"a": 1}, {"a": 2}, None]}, ("a",), "1 | 2"),
    ],
)
def test_a_path_leads_to_a_type(schema: Any, path: Path, text: str) -> None:
    found = project(schema, path, SharedRoot())

    assert not isinstance(found, Missing)
    assert type_text(found) == text


@pytest.mark.parametrize(
    ("schema", "path", "missing"),
    [
        (CLOSED, ("b",), Missing("b", ("a",))),
        (LISTED, ("b",), Missing("b", ("a",))),
        (TEXT, ("b",), Missing("b")),
        (PAIR, (2,), Missing(2)),
        (LISTED, (0,), Missing(0, ("a",))),
        ({"const": {"a": 1}}, ("b",), Missing("b")),
        ({"type": "null"}, ("b",), Missing("b")),
    ],
)
def test_what_no_value_has_is_missing(schema: Any, path: Path, missing: Missing) -> None:
    assert project(schema, path, SharedRoot()) == missing


def test_null_may_absorb_the_path() -> None:
    maybe = {"anyOf": [LISTED, {"type": "null"}]}

    assert project({"type": "null"}, ("a", "b"), SharedRoot(), absorbs_null=True) == {"type": "null"}
    assert project(maybe, ("a",), SharedRoot(), absorbs_null=True) == {"anyOf": [TEXT, {"type": "null"}]}
    assert project(maybe, ("a",), SharedRoot()) == TEXT
