"""The type of what is found at a path inside a value of a type."""

import msgspec

from stepflow.flow.model import Path
from stepflow.flow.path import PathNotFound, resolve
from stepflow.plan.shared_root import (
    Case,
    SharedRoot,
    any_of,
    declared_fields,
    field_schema,
    finite_values,
    is_typed,
    item_schema,
    kinds_of_case,
)
from stepflow.records import Json


class Missing(msgspec.Struct, frozen=True):
    """No value of the type has this part; `known` are the fields it may have there."""

    part: str | int
    known: tuple[str, ...] = ()


def project(schema: Json, path: Path, root: SharedRoot, *, absorbs_null: bool = False) -> Json | Missing:
    """The type at a path. True where nothing is known.

    Args:
        absorbs_null: a null on the way stays null whatever the path, as with the outputs of steps.
    """
    found = schema
    for part in path:
        cases = root.cases(found)
        if cases is None:
            return True
        inside = [each for case in cases for each in _inside(case, part, absorbs_null=absorbs_null)]
        if cases and not inside:
            return Missing(part, tuple(dict.fromkeys(name for case in cases for name in declared_fields(case))))
        found = any_of(inside)
    return found


def _inside(case: Case, part: str | int, *, absorbs_null: bool) -> list[Json]:
    if not case:
        return [True]
    values = next((listed for each in case if (listed := finite_values(each)) is not None), None)
    if values is not None:
        return [{"const": inner} for value in values for inner in _of_value(value, part, absorbs_null=absorbs_null)]
    kinds = kinds_of_case(case)
    found: list[Json] = [{"type": "null"}] if absorbs_null and "null" in kinds and is_typed(case) else []
    if isinstance(part, str) and "object" in kinds:
        found += _field(case, part)
    if isinstance(part, int) and "array" in kinds:
        item = item_schema(case, part)
        found += [] if item is False else [item]
    return found


def _of_value(value: Json, part: str | int, *, absorbs_null: bool) -> list[Json]:
    if value is None and absorbs_null:
        return [None]
    try:
        return [resolve(value, (part,))]
    except PathNotFound:
        return []


def _field(case: Case, name: str) -> list[Json]:
    """The field's type; nothing where the case lists its fields and this is none of them."""
    schema, names = field_schema(case, name), declared_fields(case)
    if schema is False:
        return []
    is_open = not names or any("additionalProperties" in part or "patternProperties" in part for part in case)
    return [schema] if name in names or is_open else []
