"""Types as people read them."""

from typing import Any

import pytest

from stepflow.plan.notation import type_text

MAYBE = {"type": ["string", "null"]}


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "array", "items": record(a=MAYBE)}, "{ a: null | string }[]"),
        ({"type": "array", "items": MAYBE}, "(null | string)[]"),
        ({"type": "array", "items": {"anyOf": [record(a=MAYBE), MAYBE]}}, "({ a: null | string } | null | string)[]"),
        (record(**{f"f{n}": True for n in range(10)}), "{ " + ", ".join(f"f{n}: any" for n in range(8)) + ", … }"),
        ({"enum": list(range(10))}, "0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | …"),
        ({"const": "x" * 50}, '"' + "x" * 38 + "…"),
        (record(a=record(b=record(c=record(d=record(e=MAYBE))))), "{ a: { b: { c: { d: { e: … } } } } }"),
        (record(key={"type": "string", "is_secret": True}), "{ key: string [secret] }"),
    ],
)
def test_a_type_is_one_line_and_short(schema: Any, text: str) -> None:
    assert type_text(schema) == text
