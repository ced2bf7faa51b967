import datetime
from typing import Any

import pytest

from stepflow.errors import FlowInvalidError
from stepflow.execution.submission import Plans, prepare
from stepflow.execution.verdict import RetrySettings
from stepflow.flow.read import read_flow


def _prepared(defs: dict[str, Any]) -> Any:
    document: dict[str, Any] = {
        "schemas": {"$defs": defs, "properties": {"input": {"$ref": "#/$defs/d0"}}},
        "steps": [],
        "output": {"$input": "$"},
    }
    return prepare(
        Plans(), read_flow(document), variables={}, overrides=None, settings=RetrySettings(), validation="strict"
    )


def test_secrets_are_looked_for_without_walking_every_way_through_a_schema() -> None:
    defs: dict[str, Any] = {
        f"d{level}": {"properties": {name: {"$ref": f"#/$defs/d{level + 1}"} for name in "abc"}} for level in range(60)
    }

    open_one = _prepared({**defs, "d60": {"type": "string"}})
    secret_one = _prepared({**defs, "d60": {"type": "string", "is_secret": True}})

    assert open_one.redactor is None
    assert secret_one.redactor is not None


@pytest.mark.parametrize(
    ("sound", "odd"),
    [
        (None, float("nan")),
        ("YWI=", b"ab"),
        ([1], {1}),
        ({"1": 2}, {1: 2}),
        ("2026-11-22", datetime.date(2026, 11, 22)),
    ],
)
def test_a_document_that_is_no_json_is_not_taken_for_one_that_was_read_before(sound: Any, odd: Any) -> None:
    plans = Plans()
    flow = plans.flow({"steps": [], "output": sound})

    with pytest.raises(FlowInvalidError):
        plans.flow({"steps": [], "output": odd})

    assert plans.flow({"steps": [], "output": sound}) is flow
