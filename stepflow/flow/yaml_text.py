"""YAML text, read by the core rules of YAML 1.2 and no others."""

import re
from collections.abc import Iterator
from typing import Any

from stepflow.flow.marked import MAX_DEPTH, Fault, Field, Marked, Reading, Unreadable, half_pair, halves, too_deep
from stepflow.flow.model import Path
from stepflow.records import Json

MAX_EXPANDED = 4 * 1024 * 1024
"""How many characters a document may have once its aliases are written out."""

_WORDS: dict[str, Json] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    # JSON has no value for these
    **dict.fromkeys(f"{sign}.{word}" for sign in ("", "+", "-") for word in ("inf", "Inf", "INF")),
    **dict.fromkeys((".nan", ".NaN", ".NAN")),
}
_REMEDIES = {
    "'\\t' that cannot start": "indent with blanks, not with tabs",
    "that cannot start any token": "put the text in quotes",
    "mapping values are not allowed": "put a text that holds a colon and a blank in quotes, or check the indentation",
    "unexpected end of stream": "close the quote",
    "<stream end>": "close the bracket",
    "unknown escape": "write \\\\ for a backslash, or use single quotes",
    "special characters": "remove the control character, or write it as an escape in double quotes",
}
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_BASED = re.compile(r"([-+]?)0(?:x([0-9a-fA-F]+)|o([0-7]+)|b([01]+))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_MAYBE_NUMBER = frozenset("+-.0123456789")


def read_yaml(text: str) -> Reading:
    """Read one document.

    Raises:
        Unreadable: the text is not YAML, or goes beyond what a document may be.
    """
    return _Composer(text).document()


def _events(text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    offset = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):  # the C parser refuses some valid YAML
            offset = event.start_mark.index
            yield event
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise _not_yaml(mark.index if mark else offset, reason) from None
    except YAMLError as error:
        raise _not_yaml(getattr(error, "position", offset), getattr(error, "reason", None) or str(error)) from None
    except (ArithmeticError, LookupError, ValueError) as error:  # such as the escape \UFFFFFFFF
        raise _not_yaml(offset, str(error)) from None


def _not_yaml(offset: int, reason: str) -> Unreadable:
    remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in reason), "check indentation and brackets")
    return Unreadable(Fault(offset, f"not YAML: {reason}", remedy))


class _Composer:
    """Builds the values of one document from the parser's events."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.events = _events(text)
        self.faults: list[Fault] = []
        self.repeated: list[Path] = []
        self.anchors: dict[str, Marked | None] = {}  # None while the anchored value is still being read

    def document(self) -> Reading:
        event = self._next("DocumentStartEvent", "StreamEndEvent")
        if event is None:
            return Reading(Marked(0), [], [])
        root = self._node(next(self.events), ())
        another = self._next("DocumentStartEvent", "StreamEndEvent")
        if another is not None:
            fault = Fault(another.start_mark.index, "a second document starts here", "keep one document in a file")
            raise Unreadable(fault)
        return Reading(root, self.faults, self.repeated)

    def _next(self, wanted: str, end: str) -> Any:
        for event in self.events:
            if (name := type(event).__name__) in (wanted, end):
                return event if name == wanted else None
        return None

    def _node(self, event: Any, path: Path) -> Marked:
        name = type(event).__name__
        if name == "AliasEvent":
            return self._alias(event, path)
        anchor = event.anchor
        if anchor is not None:
            self.anchors[anchor] = None
        offset = event.start_mark.index
        if event.tag is not None:
            self._tag(event)
        node = self._untagged(event, name, offset, path)
        if anchor is not None:
            self.anchors[anchor] = node
        return node

    def _tag(self, event: Any) -> None:
        remedy = "remove the tag; a string that looks like something else goes in quotes"
        self.faults.append(Fault(event.start_mark.index, f"tags such as {event.tag} are not supported", remedy))

    def _untagged(self, event: Any, name: str, offset: int, path: Path) -> Marked:
        if name == "ScalarEvent":
            plainly = event.implicit[0] and not event.style
            value = self._scalar(event.value, offset) if plainly else self._string(event.value, offset)
            return Marked(offset, value, size=len(event.value) + 1)
        if len(path) >= MAX_DEPTH:
            raise Unreadable(too_deep(offset))
        if name == "SequenceStartEvent":
            return self._sequence(offset, path)
        return self._mapping(offset, path)

    def _string(self, text: str, offset: int) -> str:
        if not halves(text):
            return text
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins escapes that are a pair
        if "\ufffd" in text:
            self.faults.append(half_pair(offset))
        return text

    def _scalar(self, text: str, offset: int) -> Json:
        try:
            return scalar(text)
        except OverflowError:
            remedy = "put it in quotes to keep it as a string"
            self.faults.append(Fault(offset, f"the integer {_short(text)} does not fit in 64 bits", remedy))
            return 0

    def _sequence(self, offset: int, path: Path) -> Marked:
        node = Marked(offset, items=[], size=2)
        assert node.items is not None
        for event in self.events:
            if type(event).__name__ == "SequenceEndEvent":
                break
            item = self._node(event, (*path, len(node.items)))
            node.items.append(item)
            self._grow(node, item)
        return node

    def _mapping(self, offset: int, path: Path) -> Marked:
        node = Marked(offset, fields={}, size=2)
        assert node.fields is not None
        for event in self.events:
            if type(event).__name__ == "MappingEndEvent":
                break
            key = self._key(event, path)
            value = self._node(next(self.events), (*path, key))
            if key in node.fields:
                self.repeated.append((*path, key))
            node.fields[key] = Field(event.start_mark.index, value)
            self._grow(node, value)
        return node

    def _key(self, event: Any, path: Path) -> str:
        node = self._node(event, (*path, "?"))
        if node.items is not None or node.fields is not None:
            message = f"a key is a string, not {'an array' if node.items is not None else 'an object'}"
            self.faults.append(Fault(node.offset, message, "put the key in quotes if it is meant as text"))
            return "?"
        return node.value if isinstance(node.value, str) else _key_text(node.value)

    def _alias(self, event: Any, path: Path) -> Marked:
        offset = event.start_mark.index
        if event.anchor not in self.anchors:
            message = f"*{event.anchor} has no anchor: no &{event.anchor} stands before it"
            raise Unreadable(Fault(offset, message, "put it in quotes if it is meant as text"))
        node = self.anchors[event.anchor]
        if node is None:
            message = f"*{event.anchor} stands inside the value that it stands for"
            raise Unreadable(Fault(offset, message, "write the value out"))
        if len(path) + node.height > MAX_DEPTH:
            raise Unreadable(too_deep(offset))
        return node

    def _grow(self, node: Marked, child: Marked) -> None:
        node.size += child.size
        node.height = max(node.height, child.height + 1)
        if node.size > MAX_EXPANDED:
            message = f"with its aliases written out the document has more than {MAX_EXPANDED:,} characters"
            raise Unreadable(Fault(node.offset, message, "repeat less through aliases"))


def scalar(text: str) -> Json:
    """What an unquoted scalar stands for.

    Raises:
        OverflowError: an integer that 64 bits don't hold.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _MAYBE_NUMBER:
        return text
    if _DECIMAL.fullmatch(text):
        return _sized(int(text)) if len(text) <= 21 else _sized(1 << 65)
    if based := _BASED.fullmatch(text):
        sign, hexadecimal, octal, binary = based.groups()
        digits, base = (hexadecimal, 16) if hexadecimal else (octal, 8) if octal else (binary, 2)
        return _sized(int(sign + digits, base))
    if _FLOAT.fullmatch(text) and (number := float(text)) not in (float("inf"), float("-inf")):
        return number
    return text


def _sized(number: int) -> int:
    if not -(2**63) <= number < 2**64:
        raise OverflowError
    return number


def _key_text(value: Json) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
