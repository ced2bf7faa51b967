"""Paths with parameters: `/one/{x}` takes one segment, `/core/{*rest}` takes the rest; `{{` and `}}` are braces."""

import re
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

_PARAMETER = re.compile(r"\{(\*?)([^{}*]+)\}")
_LITERAL = re.compile(r"(?:[^{}]|\{\{|\}\})*")
_MAX_SEGMENTS = 64


class PatternError(ValueError):
    """The text is no pattern; the message says why."""


class PatternConflictError(ValueError):
    """Another pattern of the same trie would match the same paths."""

    def __init__(self, pattern: str, other: str) -> None:
        super().__init__(f'"{pattern}" and "{other}" match the same paths')
        self.pattern = pattern
        self.other = other


class Part(msgspec.Struct, frozen=True):
    """One segment of a pattern: a literal, or a parameter of one segment or (`rest`) of all that follow."""

    text: str  # of a literal, without doubled braces; or the parameter's name
    parameter: bool = False
    rest: bool = False


class Match(msgspec.Struct, Generic[T], frozen=True):
    value: T
    params: dict[str, str] = {}


def parse_pattern(text: str) -> tuple[Part, ...]:
    """The segments of a pattern.

    Raises:
        PatternError: it does not begin with `/`, or its braces or parameters are not well formed.
    """
    if not text.startswith("/"):
        raise PatternError("it has to begin with /")
    segments = text[1:].split("/")
    if len(segments) > _MAX_SEGMENTS:
        raise PatternError(f"it has more than {_MAX_SEGMENTS} segments")
    parts = tuple(_part(segment) for segment in segments)
    if any(part.rest for part in parts[:-1]):
        raise PatternError("{*name} can only be its last segment")
    names = [part.text for part in parts if part.parameter]
    if len(names) != len(set(names)):
        raise PatternError("two of its parameters have the same name")
    return parts


def _part(segment: str) -> Part:
    parameter = _PARAMETER.fullmatch(segment)
    if parameter is not None:
        return Part(parameter[2], parameter=True, rest=bool(parameter[1]))
    if _LITERAL.fullmatch(segment) is None:
        raise PatternError(f'"{segment}" is neither text nor {{name}} nor {{*name}}; a brace is written twice')
    return Part(segment.replace("{{", "{").replace("}}", "}"))


class _Leaf(msgspec.Struct, Generic[T]):
    pattern: str
    names: tuple[str, ...]
    value: T


class _Node(Generic[T]):
    __slots__ = ("leaf", "literals", "one", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.one: _Node[T] | None = None
        self.rest: _Leaf[T] | None = None
        self.leaf: _Leaf[T] | None = None


class PathTrie(Generic[T]):
    """Values by pattern. A literal segment is preferred to `{x}`, and that to `{*rest}`, with backtracking."""

    def __init__(self, *, exclusive: bool = True) -> None:
        """`exclusive` refuses `{x}` and `{*rest}` at the same place, as component lists do."""
        self._root: _Node[T] = _Node()
        self._exclusive = exclusive

    def add(self, pattern: str, value: T) -> None:
        """Raises PatternError or PatternConflictError; the trie is then as it was."""
        self.add_parts(parse_pattern(pattern), pattern, value)

    def add_parts(self, parts: Sequence[Part], pattern: str, value: T) -> None:
        leaf = _Leaf(pattern, tuple(part.text for part in parts if part.parameter), value)
        node = self._root
        for part in parts:
            if part.rest:
                self._refuse(pattern, node.rest or (self._any_leaf(node.one) if self._exclusive else None))
                node.rest = leaf
                return
            node = self._child(node, part, pattern)
        self._refuse(pattern, node.leaf)
        node.leaf = leaf

    def _child(self, node: _Node[T], part: Part, pattern: str) -> _Node[T]:
        if not part.parameter:
            return node.literals.setdefault(part.text, _Node())
        if self._exclusive:
            self._refuse(pattern, node.rest)
        if node.one is None:
            node.one = _Node()
        return node.one

    @staticmethod
    def _refuse(pattern: str, other: _Leaf[T] | None) -> None:
        if other is not None:
            raise PatternConflictError(pattern, other.pattern)

    def _any_leaf(self, node: _Node[T] | None) -> _Leaf[T] | None:
        while node is not None:
            found = node.leaf or node.rest
            if found is not None:
                return found
            node = node.one or next(iter(node.literals.values()), None)
        return None

    def match(self, path: str) -> Match[T] | None:
        return next(self.matches(path), None)

    def matches(self, path: str) -> Iterator[Match[T]]:
        """Every pattern that matches, the most specific first. Nothing is decoded, folded or collapsed."""
        if not path.startswith("/"):
            return
        segments = path[1:].split("/")
        for leaf, values in _walk(self._root, segments, 0, ()):
            yield Match(leaf.value, dict(zip(leaf.names, values, strict=True)))


def _walk(
    node: _Node[T], segments: Sequence[str], at: int, values: tuple[str, ...]
) -> Iterator[tuple[_Leaf[T], tuple[str, ...]]]:
    if at == len(segments):
        if node.leaf is not None:
            yield node.leaf, values
        return
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        yield from _walk(literal, segments, at + 1, values)
    if node.one is not None and segment:
        yield from _walk(node.one, segments, at + 1, (*values, segment))
    if node.rest is not None and (rest := "/".join(segments[at:])):
        yield node.rest, (*values, rest)
