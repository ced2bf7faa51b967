"""The path language: where to look inside a value, such as `$.rows[0]["a.b"]`."""

import re
from typing import NoReturn

from stepflow.flow.model import Path
from stepflow.records import Json

_BLANKS = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_NAME = re.compile(r"\.([^.\[]*)")
_BRACKET = re.compile(r"\[((?:\\.|[^\\\]])*)\]", re.DOTALL)
_INDEX = re.compile(r"\+?([0-9]+)")
_ESCAPE = re.compile(r"\\([\\\"'\]])")
_ESCAPED = re.compile(r"([\\\"\]])")
_LARGEST_INDEX = 2**63 - 1


class PathError(ValueError):
    """The text is not a path; `reason` says why."""

    def __init__(self, text: str, reason: str) -> None:
        shown = text if len(text) <= 200 else f"{text[:200]}…"
        super().__init__(f"{shown!r} is not a path: {reason}")
        self.reason = reason


class PathNotFound(LookupError):
    """The value has nothing at this path."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"nothing is at {format_path(path)}")
        self.path = path


def parse_path(text: str | None) -> Path:
    """Read a path. None and the empty text mean the root.

    A name without `$` is one field; where it holds `.` or `[` it is read as if `$.` stood before it.
    A quoted key may hold anything: `\\\\`, `\\"`, `\\'` and `\\]` stand for the second character.

    Raises:
        PathError: the text is no path.
    """
    if not text:
        return ()
    trimmed = text.strip(_BLANKS)
    if trimmed.startswith("$"):
        return _parts(text, trimmed[1:])
    if "." in text or "[" in text:
        return _parts(text, f".{text}".rstrip(_BLANKS))
    return (text,)


def _parts(text: str, rest: str) -> Path:
    parts: list[str | int] = []
    position = 0
    while position < len(rest):
        match rest[position]:
            case ".":
                found = _NAME.match(rest, position)
                assert found is not None
                if found[1]:
                    parts.append(found[1])
            case "[":
                found = _BRACKET.match(rest, position)
                if found is None:
                    raise PathError(text, "a bracket is never closed")
                parts.append(_bracket(text, found[1].strip(_BLANKS)))
            case _:
                _refuse(text, rest, position)
        position = found.end()
    return tuple(parts)


def _refuse(text: str, rest: str, position: int) -> NoReturn:
    if position == 0:
        raise PathError(text, f"after $ comes . or [, not {rest[0]!r}; write $.{rest}"[:300])
    raise PathError(text, f"after ] comes . or [, not {rest[position]!r}")


def _bracket(text: str, inside: str) -> str | int:
    if inside[:1] in ("'", '"') and inside:
        return _quoted(text, inside)
    index = _INDEX.fullmatch(inside)
    if index is None:
        raise PathError(text, _bad_index(inside))
    digits = index[1].lstrip("0") or "0"
    if len(digits) > 19 or int(digits) > _LARGEST_INDEX:
        raise PathError(text, f"the index {digits[:20]}{'…' if len(digits) > 20 else ''} is too large")
    return int(digits)


def _quoted(text: str, inside: str) -> str:
    quote = inside[0]
    body = inside[1:-1]
    ends = len(inside) > 1 and inside[-1] == quote and (len(body) - len(body.rstrip("\\"))) % 2 == 0
    if not ends:
        raise PathError(text, f"the quote {quote} is never closed; write ] inside a key as \\]")
    return _ESCAPE.sub(r"\1", body)


def _bad_index(inside: str) -> str:
    if not inside:
        return "nothing stands between the brackets"
    if inside == "*":
        return "there are no wildcards; use an index"
    if re.fullmatch(r"-[0-9]+", inside):
        return "an index counts from 0 at the front; there are no negative ones"
    return f'{inside[:100]!r} is no index; write a key with a dot before it or in quotes, as in ["name"]'


def format_path(path: Path) -> str:
    """The one text of a path: `parse_path` reads it back as the same path."""
    return "$" + "".join(_format_part(part, last=place == len(path) - 1) for place, part in enumerate(path))


def _format_part(part: str | int, *, last: bool) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    plain = part and "." not in part and "[" not in part and not (last and part[-1] in _BLANKS)
    return f".{part}" if plain else '["' + _ESCAPED.sub(r"\\\1", part) + '"]'


def resolve(value: Json, path: Path) -> Json:
    """What is in the value at this path.

    Raises:
        PathNotFound: a field is missing, an index is beyond the end, or the value on the way is of another kind.
    """
    for part in path:
        if isinstance(part, int):
            if not isinstance(value, list) or part >= len(value):
                raise PathNotFound(path)
            value = value[part]
        else:
            if not isinstance(value, dict) or part not in value:
                raise PathNotFound(path)
            value = value[part]
    return value
