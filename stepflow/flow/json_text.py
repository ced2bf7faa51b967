"""JSON text: read fast, and read again with places when something is wrong."""

import json
import re

import msgspec

from stepflow.flow.marked import MAX_DEPTH, Fault, Field, Marked, Reading, Unreadable, half_pair, halves, too_deep
from stepflow.flow.model import Path
from stepflow.records import Json

_DECODER = msgspec.json.Decoder()
_BLANK = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_LONG = re.compile(r"[0-9]{19}")  # an integer of so many digits may not fit in 64 bits
_WORD = re.compile(r"[A-Za-z]+")
_WORDS: dict[str, Json] = {"null": None, "true": True, "false": False}


def decode_json(text: str) -> Json:
    """Read the text fast.

    Raises:
        Unreadable: it needs `read_json`, which tells what is wrong and where.
    """
    try:
        value: Json = _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Unreadable(Fault(0, str(error))) from None
    if _LONG.search(text) or is_too_deep(value) or _repeats(text):
        raise Unreadable(Fault(0, "perhaps an integer is too large, the nesting too deep or a key repeated"))
    return value


def is_too_deep(value: Json) -> bool:
    """Whether collections are nested deeper than documents and inputs may be."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, list | dict)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return False
    return any(isinstance(node, list | dict) for node in level)


def _repeats(text: str) -> bool:
    """Whether some object has the same key twice."""
    repeated = False

    def pairs(members: list[tuple[str, Json]]) -> None:
        nonlocal repeated
        repeated = repeated or len({name for name, _ in members}) < len(members)

    json.loads(text, object_pairs_hook=pairs)
    return repeated


def read_json(text: str) -> Reading:
    """Read the text with the place of everything in it.

    Raises:
        Unreadable: the text is not JSON, or nested too deeply.
    """
    reader = _Reader(text)
    start = reader.blank(0)
    if start == len(text):
        raise Unreadable(Fault(0, "the text is empty", "write null for an empty document"))
    root, end = reader.value(start, ())
    if (rest := reader.blank(end)) < len(text):
        message = f"not JSON: {_shown(text, rest)} after the end of the value"
        raise Unreadable(Fault(rest, message, "keep one value, and check its brackets"))
    return Reading(root, reader.faults, reader.repeated)


class _Reader:
    """Each method takes an offset and answers what stands there and the offset behind it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.faults: list[Fault] = []
        self.repeated: list[Path] = []

    def blank(self, at: int) -> int:
        found = _BLANK.match(self.text, at)
        return found.end() if found else at

    def value(self, at: int, path: Path) -> tuple[Marked, int]:
        match self.text[at : at + 1]:
            case "{":
                return self._object(at, path)
            case "[":
                return self._array(at, path)
            case '"':
                value, end = self._string(at)
                return Marked(at, value), end
            case _:
                return self._other(at)

    def _object(self, at: int, path: Path) -> tuple[Marked, int]:
        node = Marked(at, fields={})
        assert node.fields is not None
        self._check_depth(at, path)
        position = self.blank(at + 1)
        if self._is("}", position):
            return node, position + 1
        while True:
            key, value, end = self._member(position, path)
            if key in node.fields:
                self.repeated.append((*path, key))
            node.fields[key] = Field(position, value)
            position = self.blank(end)
            if self._is("}", position):
                return node, position + 1
            position = self._comma(position, "}")

    def _member(self, at: int, path: Path) -> tuple[str, Marked, int]:
        if not self._is('"', at):
            raise self._expected(at, "a key in double quotes")
        key, end = self._string(at)
        colon = self.blank(end)
        if not self._is(":", colon):
            raise self._expected(colon, "a colon after the key")
        value, end = self.value(self.blank(colon + 1), (*path, key))
        return key, value, end

    def _array(self, at: int, path: Path) -> tuple[Marked, int]:
        node = Marked(at, items=[])
        assert node.items is not None
        self._check_depth(at, path)
        position = self.blank(at + 1)
        if self._is("]", position):
            return node, position + 1
        while True:
            item, end = self.value(position, (*path, len(node.items)))
            node.items.append(item)
            position = self.blank(end)
            if self._is("]", position):
                return node, position + 1
            position = self._comma(position, "]")

    def _comma(self, at: int, closing: str) -> int:
        if not self._is(",", at):
            raise self._expected(at, f"a comma or {closing}")
        following = self.blank(at + 1)
        if self._is(closing, following):
            raise Unreadable(Fault(at, "not JSON: a comma after the last member", "remove the comma"))
        return following

    def _is(self, character: str, at: int) -> bool:
        return self.text[at : at + 1] == character

    def _check_depth(self, at: int, path: Path) -> None:
        if len(path) >= MAX_DEPTH:
            raise Unreadable(too_deep(at))

    def _string(self, at: int) -> tuple[str, int]:
        found = _STRING.match(self.text, at)
        if found is None:
            message = "not JSON: a string that is never closed, holds a control character, or has a wrong escape"
            raise Unreadable(Fault(at, message, "write \\n for a line break and \\\\ for a backslash"))
        value = str(json.loads(found[0]))
        if halves(value):
            self.faults.append(half_pair(at))
            value = ""
        return value, found.end()

    def _other(self, at: int) -> tuple[Marked, int]:
        number = _NUMBER.match(self.text, at)
        if number is not None:
            return Marked(at, self._number(number, at)), number.end()
        word = _WORD.match(self.text, at)
        if word is None or word[0] not in _WORDS:
            raise self._expected(at, "a value")
        return Marked(at, _WORDS[word[0]]), word.end()

    def _number(self, number: re.Match[str], at: int) -> Json:
        text = number[0]
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        remedy = "put it in quotes to keep it as a string"
        if number[1] or number[2]:
            value = float(text)
            if abs(value) == float("inf"):
                self.faults.append(Fault(at, f"the number {shown} is too large for a double", remedy))
            return value
        if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
            self.faults.append(Fault(at, f"the integer {shown} does not fit in 64 bits", remedy))
            return 0
        return int(text)

    def _expected(self, at: int, wanted: str) -> Unreadable:
        found = _shown(self.text, at)
        endless = found.lstrip("'-")[:3].lower() in ("nan", "inf")
        remedy = "JSON has no NaN or infinity" if endless else "check commas, quotes and brackets"
        return Unreadable(Fault(at, f"not JSON: expected {wanted}, found {found}", remedy))


def _shown(text: str, at: int) -> str:
    if at >= len(text):
        return "the end of the text"
    word = re.compile(r"\w{1,20}|-?\w{1,20}|.", re.DOTALL).match(text, at)
    return repr(word[0]) if word else repr(text[at])
