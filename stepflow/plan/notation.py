"""Types as people read them: `string`, `{ a: string, b?: number }`, `string[]`, `any`."""

import msgspec

from stepflow.plan.shared_root import (
    Case,
    SharedRoot,
    declared_fields,
    field_schema,
    finite_values,
    item_schema,
    kinds_of_case,
    prefix_length,
    required_fields,
)
from stepflow.records import Json

_DEEPEST = 4
_MOST = 8  # fields or values that are listed
_LONGEST = 40  # characters of a value


def type_text(schema: Json, root: SharedRoot | None = None) -> str:
    """A type in one line, shortened where it is large. Secrets are marked and their values not shown."""
    try:
        return _Writer(root or SharedRoot()).write(schema, 0)
    except RecursionError:
        return "…"


class _Writer:
    def __init__(self, root: SharedRoot) -> None:
        self._root = root

    def write(self, schema: Json, depth: int) -> str:
        if depth > _DEEPEST:
            return "…"
        cases = self._root.cases(schema)
        if cases is None:
            return "…"
        texts = list(dict.fromkeys(self._case(case, depth) for case in cases))
        text = " | ".join(texts) if texts else "never"
        return f"{text} [secret]" if _is_secret(schema, self._root) else text

    def _case(self, case: Case, depth: int) -> str:
        values = next((found for part in case if (found := finite_values(part)) is not None), None)
        if values is not None and not any(part.get("is_secret") is True for part in case):
            return _values(values)
        kinds = kinds_of_case(case)
        if "integer" in kinds and "fraction" in kinds:
            kinds = ["number" if kind == "fraction" else kind for kind in kinds if kind != "integer"]
        if len(kinds) == 6:
            return self._untyped(case, depth)
        return " | ".join(self._kind(kind, case, depth) for kind in kinds) or "never"

    def _untyped(self, case: Case, depth: int) -> str:
        return self._object(case, depth) if declared_fields(case) else "any"

    def _kind(self, kind: str, case: Case, depth: int) -> str:
        match kind:
            case "object":
                return self._object(case, depth)
            case "array":
                return self._array(case, depth)
            case "fraction":
                return "number"
            case _:
                return kind

    def _object(self, case: Case, depth: int) -> str:
        names, sure = declared_fields(case), required_fields(case)
        if not names:
            others = field_schema(case, "")
            return "object" if others in (True, False) else f"{{ [name]: {self.write(others, depth + 1)} }}"
        fields = [
            f"{name}{'' if name in sure else '?'}: {self.write(field_schema(case, name), depth + 1)}"
            for name in names[:_MOST]
        ]
        return "{ " + ", ".join([*fields, "…"] if len(names) > _MOST else fields) + " }"

    def _array(self, case: Case, depth: int) -> str:
        count = max([prefix_length(part) for part in case], default=0)
        rest = item_schema(case, count)
        if not count:
            item = self.write(rest, depth + 1)
            return f"({item})[]" if _is_union(item) else f"{item}[]"
        items = [self.write(item_schema(case, index), depth + 1) for index in range(min(count, _MOST))]
        more = ["…"] if count > _MOST or rest is not False else []
        return "[" + ", ".join([*items, *more]) + "]"


def _is_union(text: str) -> bool:
    """Whether a written type is a union itself, not only inside."""
    depth = 0
    for place, mark in enumerate(text):
        depth += (mark in "{[(") - (mark in "}])")
        if not depth and text.startswith(" | ", place):
            return True
    return False


def _is_secret(schema: Json, root: SharedRoot) -> bool:
    """Whether the schema itself carries the mark, or what it refers to does."""
    if not isinstance(schema, dict):
        return False
    return schema.get("is_secret") is True or any(
        isinstance(part, dict) and part.get("is_secret") is True for part in root.parts(schema)
    )


def _values(values: list[Json]) -> str:
    texts = [msgspec.json.encode(value).decode() for value in values[:_MOST]]
    shown = [text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…" for text in texts]
    return " | ".join([*shown, "…"] if len(values) > _MOST else shown)
