"""Any value as plain JSON of its own: what a component gives becomes what a replay of the journal would give."""

import dataclasses
from collections.abc import Iterator
from math import isfinite, isinf
from typing import Any

import msgspec

from stepflow.flow.model import Path
from stepflow.flow.path import format_path
from stepflow.records import Json

MAX_DEPTH = 200
_SHORTEST_TOO_DEEP = 2 * MAX_DEPTH
_BRACKETS = b"[]{}"
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_BYTES = (bytes, bytearray, memoryview)
_SHORT = 2**63
"""Integers below it have a text for certain; Python refuses to write out very long ones."""

_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels, or contains itself"


class NotJsonError(ValueError):
    """A value has a part that JSON cannot say."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def normalise(value: Any) -> Json:
    """The value as plain JSON, sharing nothing with what was given.

    Structs, dataclasses, pydantic models, dates, UUIDs, decimals, enums, tuples and sets become JSON as msgspec has it.

    Raises:
        NotJsonError: it holds NaN, an infinity, a lone surrogate, bytes, a key that is no text, itself, or an object of
            another kind; the path says where.
    """
    kind = type(value)
    if (
        value is None
        or kind is bool
        or (kind is int and -_SHORT < value < _SHORT)
        or (kind is float and isfinite(value))
    ):
        scalar: Json = value
        return scalar
    try:
        text = _encode(value)
        plain: Json = _decode(text)
        if plain != value:
            _check(value, plain)
    except NotJsonError:
        raise
    except RecursionError:
        raise NotJsonError("$", _TOO_DEEP) from None
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise _fault(value, (), error) from None
    if len(text) > _SHORTEST_TOO_DEEP and _is_too_deep(text, plain):
        raise NotJsonError("$", _TOO_DEEP)
    return plain


def _simplify(value: Any) -> Any:
    """What msgspec does not know by itself: models, and kinds of text and number derived from the usual ones."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    raise TypeError


_encode = msgspec.json.Encoder(enc_hook=_simplify).encode
_decode = msgspec.json.Decoder().decode


def _check(value: Any, plain: Json) -> None:
    """Refuse what msgspec writes as something else without a word: NaN as null, bytes as text."""
    exact = msgspec.to_builtins(value, builtin_types=_BYTES, str_keys=True, enc_hook=_simplify)
    if exact != plain:
        _compare(exact, plain, ())


def _compare(exact: Any, plain: Json, path: Path) -> None:
    if isinstance(exact, dict) and isinstance(plain, dict):
        for name, child in exact.items():
            _compare(child, plain[name], (*path, name))
    elif isinstance(exact, (list, tuple)) and isinstance(plain, list):
        for index, child in enumerate(exact):
            _compare(child, plain[index], (*path, index))
    elif exact != plain:
        raise NotJsonError(format_path(path), _reason(exact))


def _fault(value: Any, path: Path, error: Exception) -> NotJsonError:
    """The first part of a value that cannot be encoded."""
    if len(path) > MAX_DEPTH:
        return NotJsonError("$", _TOO_DEEP)
    for part, child in _children(value):
        try:
            _encode(part)
            _encode(child)
        except (TypeError, ValueError, msgspec.MsgspecError) as inner:
            if isinstance(part, str) and not _is_text(part):
                break
            return _fault(child, (*path, part), inner)
    return NotJsonError(format_path(path), _reason(value, error))


def _children(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from ((key, child) for key, child in value.items() if isinstance(key, str))
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from enumerate(value)
    elif isinstance(value, msgspec.Struct):
        yield from ((name, getattr(value, name)) for name in value.__struct_fields__)
    elif dataclasses.is_dataclass(value):
        yield from ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))


def _reason(value: Any, error: Exception | None = None) -> str:
    if isinstance(value, int) and abs(value) >= _SHORT:
        return "an integer of so many digits cannot be written as JSON; write it as a string"
    if isinstance(value, float):
        return f"{_number_name(value)} is not JSON"
    if isinstance(value, _BYTES):
        return "bytes are not JSON; store them with ctx.put_blob and give its id, or decode them"
    if isinstance(value, str) or (isinstance(value, dict) and not all(map(_is_text, filter(_is_str, value)))):
        return "it holds a lone surrogate, which is not text"
    if isinstance(value, dict):
        names = ", ".join(sorted({type(key).__name__ for key in value if not isinstance(key, str)}))
        return f"its keys are of type {names}, and a JSON object has text for keys"
    detail = f" ({error})" if error is not None and str(error) else ""
    kind = type(value)
    return f"an object of type {kind.__module__}.{kind.__qualname__} is not JSON{detail}"


def _number_name(value: float) -> str:
    if not isinf(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _is_str(value: object) -> bool:
    return isinstance(value, str)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_too_deep(text: bytes, plain: Json) -> bool:
    """Whether a value is nested beyond MAX_DEPTH. Taking pairs of brackets away finds the depth of most texts fast."""
    brackets = text.translate(None, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        fewer = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(fewer) == len(brackets):
            break  # there are brackets in its strings
        brackets = fewer
    level = [plain]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _inner(node)]
        if not level:
            return False
    return True


def _inner(node: Any) -> list[Any]:
    values = node.values() if type(node) is dict else node
    return [child for child in values if type(child) is dict or type(child) is list]
