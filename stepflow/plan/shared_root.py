"""Schemas of several documents under one root, so that they can be compared and combined."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from stepflow.flow.schema import SchemaError, SchemaValidator, Violation, resolve_ref
from stepflow.records import Json

KINDS = ("null", "boolean", "integer", "fraction", "string", "array", "object")
"""What a JSON value can be. A `number` of JSON Schema is an integer or a fraction."""

Part: TypeAlias = dict[str, Any]
"""A schema without references and combinations."""

Case: TypeAlias = tuple[Part, ...]
"""Parts that hold together; none: any value."""

_NAMED_INSIDE = frozenset(
    {"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"}
)  # objects of schemas
_INSIDE = frozenset(
    {
        "additionalItems", "additionalProperties", "allOf", "anyOf", "contains", "else", "if", "items", "not", "oneOf",
        "prefixItems", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip  # schemas or arrays of them
_ASSERTIONS = frozenset(
    {
        "$dynamicRef", "$recursiveRef", "additionalProperties", "anyOf", "const", "contains", "dependencies",
        "dependentRequired", "dependentSchemas", "enum", "exclusiveMaximum", "exclusiveMinimum", "if", "items",
        "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum",
        "multipleOf", "not", "oneOf", "pattern", "patternProperties", "prefixItems", "properties", "propertyNames",
        "required", "type", "unevaluatedItems", "unevaluatedProperties", "uniqueItems",
    }
)  # fmt: skip
_MOST_CASES = 64
_UNFOLLOWED = "$dynamicRef"


class SharedRoot:
    """Documents by name. References of adopted schemas lead through the root, so the schemas can stand anywhere."""

    def __init__(self) -> None:
        self.documents: dict[str, Json] = {}

    def adopt(self, name: str, document: Json) -> Json:
        """Add a document, once a name, and give its schema: JSON Schema 2020-12 with references through this root."""
        if name not in self.documents:
            old = isinstance(document, dict) and "draft-0" in str(document.get("$schema"))
            try:
                self.documents[name] = _rebased(document, f"#/{name}", old=old)
            except RecursionError:
                self.documents[name] = True  # too deep to be looked at: says nothing
        return {"$ref": f"#/{name}"}

    def violations(self, schema: Json, value: Json) -> list[Violation] | None:
        """How the value misses the schema; None when the schema cannot be used for that."""
        whole = {**self.documents, **schema} if isinstance(schema, dict) else schema
        try:
            return SchemaValidator(whole).violations(value)
        except SchemaError:
            return None

    def parts(self, schema: Json, entered: tuple[str, ...] = ()) -> list[Part | bool]:
        """The schema as parts that all must hold, references followed; False is kept, what says nothing is dropped.

        A reference that leads nowhere, or back without passing a value, is left as one that cannot be followed.
        """
        if schema is False:
            return [False]
        if not isinstance(schema, dict):
            return []
        found: list[Part | bool] = []
        own = {key: part for key, part in schema.items() if key not in ("$ref", "allOf")}
        if own.keys() & _ASSERTIONS:
            found.append(own)
        ref = schema.get("$ref")
        if isinstance(ref, str):
            target = None if ref in entered else resolve_ref(ref, self.documents)
            found += [{_UNFOLLOWED: ref}] if target is None else self.parts(target, (*entered, ref))
        together = schema.get("allOf")
        for each in together if isinstance(together, list) else ():
            found += self.parts(each, entered)
        return found

    def cases(self, schema: Json, entered: tuple[str, ...] = ()) -> list[Case] | None:
        """The schema as cases of which one holds; no case: no value. None when there are too many to look at."""
        cases: list[Case] = [()]
        ref = schema.get("$ref") if isinstance(schema, dict) else None
        inside = (*entered, ref) if isinstance(ref, str) else entered
        for part in self.parts(schema, entered):
            if isinstance(part, bool):
                return []
            options = self._options(part, inside)
            if options is None or len(options) * len(cases) > _MOST_CASES:
                return None
            cases = [(*case, *option) for case in cases for option in options]
        return cases

    def _options(self, part: Part, entered: tuple[str, ...]) -> list[Case] | None:
        rest = {key: value for key, value in part.items() if key not in ("anyOf", "oneOf")}
        options: list[Case] = [(rest,) if rest.keys() & _ASSERTIONS else ()]
        for key in ("anyOf", "oneOf"):
            branches = part.get(key)
            if not isinstance(branches, list):
                continue
            found: list[Case] = []
            for branch in branches:
                inner = (
                    [] if isinstance(branch, dict) and branch.get("$ref") in entered else self.cases(branch, entered)
                )
                if inner is None or len(found) + len(inner) > _MOST_CASES:
                    return None
                found += inner
            options = [(*option, *case) for option in options for case in found]
            if len(options) > _MOST_CASES:
                return None
        return options


def _rebased(schema: Json, prefix: str, *, old: bool) -> Json:
    """A copy in which references lead through the root, and older drafts' words are those of 2020-12."""
    if not isinstance(schema, dict):
        return schema
    if old and isinstance(schema.get("$ref"), str):
        schema = {key: part for key, part in schema.items() if key in ("$ref", "$defs", "definitions")}
    copy = with_inner(
        {key: part for key, part in schema.items() if key not in ("$schema", "$id")}, _rebase(prefix, old)
    )
    ref = copy.get("$ref")
    if isinstance(ref, str):
        copy["$ref"] = prefix + ref[1:] if ref.startswith("#") else f"#/nowhere/{ref}"
    if isinstance(copy.get("items"), list):
        copy["prefixItems"] = copy.pop("items")
        if "additionalItems" in copy:
            copy["items"] = copy.pop("additionalItems")
    return copy


def _rebase(prefix: str, old: bool) -> Callable[[Json], Json]:
    return lambda schema: _rebased(schema, prefix, old=old)


def with_inner(schema: dict[str, Json], change: Callable[[Json], Json]) -> dict[str, Json]:
    """A copy with every schema directly inside this one changed; values that are data stay."""
    copy: dict[str, Json] = {}
    for key, part in schema.items():
        if key in _NAMED_INSIDE and isinstance(part, dict):
            copy[key] = {name: each if isinstance(each, list) else change(each) for name, each in part.items()}
        elif key in _INSIDE and isinstance(part, list):
            copy[key] = [change(each) for each in part]
        elif key in _INSIDE:
            copy[key] = change(part)
        elif key == "schemas" and isinstance(part, dict):
            copy[key] = with_inner({"$defs": part.get("$defs")}, change)
        else:
            copy[key] = part
    return copy


def kinds_of(part: Part) -> frozenset[str]:
    """The kinds of value that a part allows by its `type`."""
    written = part.get("type")
    if written is None:
        return frozenset(KINDS)
    names = written if isinstance(written, list) else [written]
    kinds = frozenset(KINDS) & {str(name) for name in names}
    return kinds | {"integer", "fraction"} if "number" in names else kinds


def kinds_of_case(case: Case) -> list[str]:
    """The kinds that every part of a case allows, in their usual order."""
    allowed = frozenset(KINDS)
    for part in case:
        allowed &= kinds_of(part)
        values = finite_values(part)
        if values is not None:
            allowed &= {kind_of(value) for value in values}
    return [kind for kind in KINDS if kind in allowed]


def finite_values(part: Part) -> list[Json] | None:
    """The values that a part lists; None when it lists none."""
    if "const" in part:
        return [part["const"]]
    listed = part.get("enum")
    return listed if isinstance(listed, list) else None


def kind_of(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "fraction"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def field_schema(case: Case, name: str) -> Json:
    """What a case says of a field; True when it says nothing, False when it allows none of this name."""
    return all_of([found for part in case for found in _field_schemas(part, name)])


def _field_schemas(part: Part, name: str) -> Iterator[Json]:
    covered = False
    properties, patterns = part.get("properties"), part.get("patternProperties")
    if isinstance(properties, Mapping) and name in properties:
        covered = True
        yield properties[name]
    for pattern, schema in patterns.items() if isinstance(patterns, Mapping) else ():
        if matches(pattern, name):
            covered = True
            yield schema
    if not covered and "additionalProperties" in part:
        yield part["additionalProperties"]


def item_schema(case: Case, index: int) -> Json:
    """What a case says of an item; True when it says nothing, False when it allows none there."""
    found: list[Json] = []
    for part in case:
        first = part.get("prefixItems")
        if isinstance(first, list) and index < len(first):
            found.append(first[index])
        elif "items" in part:
            found.append(part["items"])
    return all_of(found)


def prefix_length(part: Part) -> int:
    first = part.get("prefixItems")
    return len(first) if isinstance(first, list) else 0


def declared_fields(case: Case) -> list[str]:
    """The fields that a case names under `properties`, in the order they are written."""
    found: dict[str, None] = {}
    for part in case:
        properties = part.get("properties")
        found.update(dict.fromkeys(properties if isinstance(properties, Mapping) else ()))
    return list(found)


def required_fields(case: Case) -> frozenset[str]:
    return frozenset(name for part in case for name in part.get("required") or () if isinstance(name, str))


def is_typed(case: Case) -> bool:
    return any("type" in part or finite_values(part) is not None for part in case)


def is_closed(case: Case) -> bool:
    """Whether an object of this case has no other fields than those of `properties`."""
    return any(part.get("additionalProperties") is False and not part.get("patternProperties") for part in case)


def matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name, re.ASCII) is not None
    except re.error:
        return False  # not a pattern of Python's


def is_pattern(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def all_of(schemas: list[Json]) -> Json:
    said = [schema for schema in schemas if schema is not True and schema != {}]
    if any(schema is False for schema in said):
        return False
    if not said:
        return True
    return said[0] if len(said) == 1 else {"allOf": said}


def any_of(schemas: list[Json]) -> Json:
    """The union of types. Any value at all takes the others in, but is kept apart from them where they are known."""
    distinct = list({repr(schema): schema for schema in schemas if schema is not False}.values())
    if not distinct:
        return False
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def is_same(one: Json, other: Json) -> bool:
    """Equal as JSON: Python takes 1, 1.0 and True for equal."""
    return one == other and repr(one) == repr(other)
