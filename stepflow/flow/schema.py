"""JSON Schemas of a flow's faces: checking values, checking the schemas themselves, and which parts are secret."""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from stepflow.flow.expression import kind
from stepflow.flow.model import Path
from stepflow.flow.path import format_path
from stepflow.records import Json

REDACTED = "[REDACTED]"
_VALUE = "\x00"  # stands in the validator's messages for the value, which is shown in our own way
_MOST = 1_000  # violations of one value
_SHOWN = 80  # characters of a value that a message shows
_SAME_PLACE = ("allOf", "anyOf", "oneOf")
_BRANCHES = ("if", "then", "else")


class Violation(msgspec.Struct, frozen=True):
    """One thing in a value that its schema does not allow."""

    path: Path
    rule: str  # the schema's keyword
    message: str


class SchemaError(ValueError):
    """The schema itself cannot be used; the text says why, `path` where in the schema."""

    def __init__(self, message: str, path: Path = ()) -> None:
        super().__init__(message)
        self.path = path


class SchemaValidator:
    """A compiled schema. `#/schemas/$defs/Name` and `#/$defs/Name` look into `defs`; nothing is ever fetched.

    Raises:
        SchemaError: the schema is not valid JSON Schema, or refers to what is not there.
    """

    def __init__(self, schema: Json, defs: Mapping[str, Json] = {}) -> None:
        self._document = schema_document(schema, defs)
        self._validator = _compile(self._document)
        self._secrets: SecretMarks | None = None

    def accepts(self, value: Json) -> bool:
        try:
            return bool(self._validator.is_valid(value))
        except (ValueError, TypeError):  # nested too deeply or a number too large to be looked at
            return False

    def violations(self, value: Json) -> list[Violation]:
        """What the schema does not allow, in the order of the places, up to a thousand; empty when all is well.

        Values under an `is_secret` mark are never part of a message.
        """
        if self.accepts(value):
            return []
        if self._secrets is None:
            self._secrets = SecretMarks(self._document)
        try:
            masked = self._secrets.masked(value)
            found = [
                _violation(error, masked, self._secrets) for error in islice(self._validator.iter_errors(value), _MOST)
            ]
        except (ValueError, TypeError, RecursionError) as error:
            return [Violation((), "limits", f"the value cannot be checked: {error}")]
        return sorted(found, key=lambda each: ([str(part) for part in each.path], each.rule))


def schema_problem(schema: Json, defs: Mapping[str, Json] = {}) -> str | None:
    """Why this is not a usable JSON Schema; None when it is."""
    error = schema_error(schema, defs)
    return None if error is None else str(error)


def schema_error(schema: Json, defs: Mapping[str, Json] = {}) -> SchemaError | None:
    """As `schema_problem`, with the place. One that begins with `schemas` lies in a definition of the flow."""
    try:
        _compile(schema_document(schema, defs))
    except SchemaError as error:
        in_defs = error.path[:1] == ("$defs",) and not (isinstance(schema, dict) and "$defs" in schema)
        return SchemaError(str(error), ("schemas", *error.path)) if in_defs else error
    return None


def schema_document(schema: Json, defs: Mapping[str, Json] = {}) -> Json:
    """The schema with the flow's definitions placed where its references look for them."""
    if schema is None:
        return True
    if not isinstance(schema, dict) or not defs or not _mentions(schema, "$ref"):
        return schema
    own = schema.get("$defs")
    merged = {**defs, **own} if isinstance(own, dict) else dict(defs)
    return {**schema, "$defs": merged, "schemas": {"$defs": dict(defs)}}


def resolve_ref(ref: object, document: Json) -> Json:
    """What a `$ref` inside the document points at; None when that is nothing."""
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        return None
    found = document
    for part in unquote(ref).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


def pointer_text(name: str) -> str:
    """A name as a part of a JSON pointer in a `$ref`."""
    return quote(name.replace("~", "~0").replace("/", "~1"), safe="~")


class SecretMarks:
    """Which parts of a value the schema marks with `is_secret`; a mark covers everything below it."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self.any = _mentions(document, "is_secret")

    def depth(self, path: Path) -> int | None:
        """How many parts of the path lead to the mark that covers it; None when none does."""
        schemas = self._applied([self._document]) if self.any else []
        for depth in range(len(path) + 1):
            if any(schema.get("is_secret") is True for schema in schemas):
                return depth
            if depth < len(path):
                schemas = self._below(schemas, path[depth])
        return None

    def masked(self, value: Json) -> Json:
        """A copy with `[REDACTED]` for every secret part."""
        return self.replaced(value, lambda _: REDACTED)

    def replaced(self, value: Json, by: Callable[[Json], Json]) -> Json:
        """A copy with what the function gives for every secret part; the value itself where nothing can be secret."""
        return self._visit(value, self._applied([self._document]), by) if self.any else value

    def scalars(self, value: Json) -> list[Json]:
        """Every scalar that is secret or part of something secret."""
        found: list[Json] = []
        if self.any:
            self._visit(value, self._applied([self._document]), lambda secret: found.extend(_scalars(secret)))
        return found

    def _visit(self, value: Json, schemas: list[dict[str, Json]], mark: Callable[[Json], Json]) -> Json:
        if any(schema.get("is_secret") is True for schema in schemas):
            return mark(value)
        if not schemas:
            return value
        if isinstance(value, dict):
            return {key: self._visit(part, self._below(schemas, key), mark) for key, part in value.items()}
        if isinstance(value, list):
            return [self._visit(part, self._below(schemas, index), mark) for index, part in enumerate(value)]
        return value

    def _applied(self, schemas: list[Json]) -> list[dict[str, Json]]:
        """The schemas and all that speak of the same value: behind references, in combinations, in branches."""
        found: list[dict[str, Json]] = []
        seen: set[int] = set()
        waiting = list(reversed(schemas))
        while waiting:
            schema = waiting.pop()
            if not isinstance(schema, dict) or id(schema) in seen:
                continue
            seen.add(id(schema))
            found.append(schema)
            waiting.append(resolve_ref(schema.get("$ref"), self._document))
            waiting.extend(schema.get(key) for key in _BRANCHES)
            for key in _SAME_PLACE:
                choices = schema.get(key)
                waiting.extend(choices if isinstance(choices, list) else [])
        return found

    def _below(self, schemas: list[dict[str, Json]], part: str | int) -> list[dict[str, Json]]:
        if isinstance(part, str):
            return self._applied([found for schema in schemas for found in _of_field(schema, part)])
        return self._applied([found for schema in schemas for found in _of_item(schema, part)])


def secret_paths(schema: Json, defs: Mapping[str, Json] = {}) -> tuple[Path, ...]:
    """Where the schema marks secrets; `*` stands for every item or every other field.

    What lies below a definition that contains itself is listed once; `SecretMarks` follows it to any depth.
    """
    document = schema_document(schema, defs)
    return tuple(dict.fromkeys(_marked(document, document, (), ())))


def _marked(schema: Json, document: Json, at: Path, entered: tuple[int, ...]) -> Iterator[Path]:
    if not isinstance(schema, dict) or id(schema) in entered:
        return
    if schema.get("is_secret") is True:
        yield at
        return
    entered = (*entered, id(schema))
    same_place = [resolve_ref(schema.get("$ref"), document), *(schema.get(key) for key in _BRANCHES)]
    for key in _SAME_PLACE:
        choices = schema.get(key)
        same_place.extend(choices if isinstance(choices, list) else [])
    for other in same_place:
        yield from _marked(other, document, at, entered)
    properties = schema.get("properties")
    for name, part in properties.items() if isinstance(properties, dict) else ():
        yield from _marked(part, document, (*at, name), entered)
    first = schema.get("prefixItems")
    for index, part in enumerate(first) if isinstance(first, list) else ():
        yield from _marked(part, document, (*at, index), entered)
    patterns = schema.get("patternProperties")
    others = list(patterns.values()) if isinstance(patterns, dict) else []
    for part in (*others, schema.get("additionalProperties"), schema.get("items")):
        yield from _marked(part, document, (*at, "*"), entered)


def _of_field(schema: dict[str, Json], name: str) -> list[Json]:
    properties, patterns = schema.get("properties"), schema.get("patternProperties")
    found = [properties[name]] if isinstance(properties, dict) and name in properties else []
    found += [part for key, part in patterns.items() if _matches(key, name)] if isinstance(patterns, dict) else []
    return found or [schema.get("additionalProperties")]


def _of_item(schema: dict[str, Json], index: int) -> list[Json]:
    first = schema.get("prefixItems")
    if isinstance(first, list) and index < len(first):
        return [first[index]]
    return [schema.get("items")]


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return True  # not a pattern of Python's: rather hide too much


def _scalars(value: Json) -> Iterator[Json]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
        else:
            yield each


def _mentions(schema: Json, key: str) -> bool:
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if key in each:
                return True
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return False


def _compile(document: Json) -> Any:
    import jsonschema_rs  # heavy, and needed only where a schema is declared

    if not isinstance(document, dict | bool):
        raise SchemaError(f"a schema is an object or a boolean, not {_shown(document)}")
    try:
        return jsonschema_rs.validator_for(document, mask=_VALUE, retriever=_refuse)
    except jsonschema_rs.ValidationError as error:
        path = _reaching(document, tuple(error.instance_path))
        raise SchemaError(_problem_text(error, document, path), path) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise SchemaError(str(error)) from None


def _refuse(uri: str) -> Any:
    raise ValueError(f"schemas are not fetched, so {uri} cannot be referred to")


def _reaching(document: Json, path: Path) -> Path:
    """The part of a path that exists: behind a reference the validator counts on from there."""
    for depth in range(len(path), 0, -1):
        try:
            _at(document, path[:depth])
        except (LookupError, TypeError):
            continue
        return path[:depth]
    return ()


def _problem_text(error: Any, document: Json, path: Path) -> str:
    message = str(error.message)
    if "retrieving it failed" in message:
        uri = re.search(r"'([^']*)'", message)
        return f"it refers to {uri.group(1) if uri else 'another document'}, and schemas are never fetched"
    if message.startswith("Pointer "):
        return f"it refers to #{message.split(chr(39))[1]}, which does not exist"
    text = message.replace(_VALUE, _shown(_at(document, path)))
    return f"{text} (at {format_path(path)})" if path else text


def _violation(error: Any, masked: Json, secrets: SecretMarks) -> Violation:
    path: Path = tuple(error.instance_path)
    rule = "false" if "FalseSchema" in type(error.kind).__name__ else str(error.schema_path[-1])
    depth = secrets.depth(path)
    if depth is not None:
        return Violation(path[:depth], rule, f'{REDACTED} does not satisfy "{rule}"')
    value = _at(masked, path)
    shown = kind(value) if secrets.any and rule == "type" else _shown(value)  # perhaps it stands in a secret's place
    return Violation(path, rule, str(error.message).replace(_VALUE, shown))


def _at(value: Json, path: Path) -> Json:
    found: Any = value
    for part in path:
        found = found[part]
    return found  # type: ignore[no-any-return]


def _shown(value: Json) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError, OverflowError):
        text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
