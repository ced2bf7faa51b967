"""Types written out as schemas of their own."""

from typing import Any

import pytest

from stepflow.flow.schema import schema_document
from stepflow.plan.shared_root import SharedRoot
from stepflow.plan.standalone import standalone

TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (True, True),
        ({"const": 1}, {"type": "integer"}),
        ({"const": 1.5}, {"type": "number"}),
        (
            {"const": {"a": [1, None]}},
            {
                "type": "object",
                "properties": {"a": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}},
                "required": ["a"],
            },
        ),
        ({"anyOf": [TEXT, True]}, True),
        ({"anyOf": [{"const": "a"}, {"const": "b"}]}, TEXT),
        ({"enum": ["a"]}, {"enum": ["a"]}),
    ],
)
def test_what_a_flow_writes_becomes_its_type(given: Any, written: Any) -> None:
    assert standalone(given, SharedRoot()) == written


def test_definitions_of_other_documents_come_along_under_names_of_their_own() -> None:
    root = SharedRoot()
    defs = {"Row": TEXT}
    ours = root.adopt("output", schema_document({"$ref": "#/schemas/$defs/Row"}, defs))
    theirs = root.adopt("given0", {"$ref": "#/$defs/Row", "$defs": {"Row": {"type": "integer"}}})

    written = standalone({"anyOf": [ours, theirs]}, root, defs)

    assert written == {
        "anyOf": [{"$ref": "#/schemas/$defs/Row"}, {"$ref": "#/$defs/Row2"}],
        "$defs": {"Row2": {"type": "integer"}},
    }
