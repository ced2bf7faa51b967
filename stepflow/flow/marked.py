"""Values of a text that know where they stand in it."""

from typing import NamedTuple

import msgspec

from stepflow.flow.model import Path
from stepflow.records import Json

MAX_DEPTH = 100
"""How deeply objects and arrays of a document may be nested."""

FLATTER = "nest less; data goes into the input of a run, not into a document"


class Marked(msgspec.Struct):
    """A value and the offset of its first character. Of `items` and `fields` a collection has the one that fits."""

    offset: int
    value: Json = None
    items: "list[Marked] | None" = None
    fields: "dict[str, Field] | None" = None
    size: int = 1  # characters it would take written out, aliases and all
    height: int = 0  # levels of collections, itself included


class Field(NamedTuple):
    """A member of an object: the offset of its key, and its value."""

    offset: int
    value: Marked


class Fault(NamedTuple):
    """Something wrong at an offset of the text."""

    offset: int
    message: str
    remedy: str | None = None


class Unreadable(Exception):
    """The text is not what it claims to be, so nothing can be read from here on."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Reading(NamedTuple):
    """A text read: its value, what is wrong without hindering the reading, and the keys written more than once."""

    root: Marked
    faults: list[Fault]
    repeated: list[Path]


def plain(node: Marked) -> Json:
    """The value without its places."""
    if node.items is not None:
        return [plain(item) for item in node.items]
    if node.fields is not None:
        return {name: plain(field.value) for name, field in node.fields.items()}
    return node.value


def offset_of(root: Marked, path: Path, *, of_key: bool = False) -> int:
    """The offset of the value at a path, or of its key; where the path leads nowhere, of the last value on it."""
    offset = root.offset
    node = root
    for part in path:
        field = _child(node, part)
        if field is None:
            return offset
        node = field.value
        offset = field.offset if of_key else node.offset
    return offset


def _child(node: Marked, part: str | int) -> Field | None:
    if isinstance(part, str):
        return (node.fields or {}).get(part)
    items = node.items or []
    return Field(items[part].offset, items[part]) if part < len(items) else None


def halves(text: str) -> bool:
    """Whether the text holds half of a surrogate pair, which no encoding can write."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def too_deep(offset: int) -> Fault:
    return Fault(offset, f"nested deeper than {MAX_DEPTH} levels", FLATTER)


def half_pair(offset: int) -> Fault:
    return Fault(offset, "a string holds half of a surrogate pair", "write both halves, or neither")


def line_at(text: str, offset: int) -> tuple[int, int, str]:
    """Line and column of an offset, counted from 1, and the line's text."""
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    line = text[start:] if end < 0 else text[start:end]
    return text.count("\n", 0, offset) + 1, offset - start + 1, line.rstrip("\r")
