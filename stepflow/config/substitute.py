"""Environment variables in the strings of a configuration: `${NAME}`, `${NAME:-default}`, `${NAME:default}`.

`:-` takes its default when the variable is unset or empty, `:` only when it is unset. A default may hold further
variables. `\\${` and `$$` stand for `${` and `$`.
"""

import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

from stepflow.flow.model import Path
from stepflow.records import Json

_MAX_NESTED = 32
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[^$\\}]+")


class SubstitutionError(ValueError):
    """The text can't be substituted; the message says why and never shows a value."""


class Substituted(msgspec.Struct, frozen=True):
    """A string that used the environment: how it was written, what it became, and which variables it read."""

    template: str
    text: str
    names: tuple[str, ...]


def substitute_all(
    value: Json,
    environ: Mapping[str, str],
    *,
    is_bare: Callable[[Path], bool] = lambda path: False,
    refuse: Callable[[Path, str], None],
) -> tuple[Json, dict[Path, Substituted]]:
    """A copy with every string value substituted, and the strings that used a variable.

    Args:
        is_bare: where `$NAME` without braces counts too, and `\\$` and `\\\\` are escapes.
        refuse: told of each string that can't be substituted; it is kept as written.
    """
    used: dict[Path, Substituted] = {}

    def copy(value: Json, path: Path) -> Json:
        if isinstance(value, Mapping):
            return {key: copy(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [copy(item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or not ("$" in value or "\\" in value):
            return value
        try:
            found = substitute(value, environ, bare=is_bare(path))
        except SubstitutionError as error:
            refuse(path, str(error))
            return value
        if found.names:
            used[path] = found
        return found.text

    return copy(value, ()), used


def substitute(template: str, environ: Mapping[str, str], *, bare: bool = False) -> Substituted:
    """One string with its variables filled in.

    Raises:
        SubstitutionError: a variable is not set and has no default, or the text is not well formed.
    """
    reader = _Reader(template, environ, bare)
    text = reader.read(0, wanted=True)
    return Substituted(template, text, tuple(dict.fromkeys(reader.names)))


class _Reader:
    def __init__(self, template: str, environ: Mapping[str, str], bare: bool) -> None:
        self._template = template
        self._environ = environ
        self._bare = bare
        self._at = 0
        self.names: list[str] = []

    def read(self, depth: int, *, wanted: bool) -> str:
        """The text up to the end, or inside a default up to its closing brace. Only what is wanted must be set."""
        parts: list[str] = []
        while self._at < len(self._template):
            if depth and self._template[self._at] == "}":
                break
            parts.append(self._piece(depth, wanted))
        return "".join(parts)

    def _piece(self, depth: int, wanted: bool) -> str:
        for written, meant in self._escapes(depth):
            if self._template.startswith(written, self._at):
                self._at += len(written)
                return meant
        if self._template.startswith("${", self._at):
            return self._variable(depth, wanted)
        if self._bare and (name := _NAME.match(self._template, self._at + 1)) and self._template[self._at] == "$":
            self._at = name.end()
            return self._value(name[0]) if wanted else ""
        plain = _PLAIN.match(self._template, self._at)
        end = plain.end() if plain else self._at + 1
        text = self._template[self._at : end]
        self._at = end
        return text

    def _escapes(self, depth: int) -> Iterator[tuple[str, str]]:
        yield from (("\\${", "${"), ("$$", "$"))
        if depth:
            yield "\\}", "}"
        if self._bare:
            yield from (("\\$", "$"), ("\\\\", "\\"))

    def _variable(self, depth: int, wanted: bool) -> str:
        if depth >= _MAX_NESTED:
            raise SubstitutionError(f"defaults are nested deeper than {_MAX_NESTED} levels")
        name = _NAME.match(self._template, self._at + 2)
        if name is None:
            raise SubstitutionError("${ is not followed by the name of a variable; write \\${ for the text itself")
        self._at = name.end()
        if self._skip("}"):
            return self._value(name[0]) if wanted else ""
        empty_counts = self._skip(":-")
        if not empty_counts and not self._skip(":"):
            raise SubstitutionError(f"after ${{{name[0]} comes }} or :-")
        value = self._environ.get(name[0])
        takes_default = value is None or (empty_counts and not value)
        default = self.read(depth + 1, wanted=wanted and takes_default)
        if not self._skip("}"):
            raise SubstitutionError(f"${{{name[0]} is never closed")
        if not wanted:
            return ""
        self.names.append(name[0])
        return default if takes_default else self._value(name[0])

    def _skip(self, text: str) -> bool:
        found = self._template.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _value(self, name: str) -> str:
        value = self._environ.get(name)
        if value is None:
            raise SubstitutionError(f"the environment variable {name} is not set and has no default")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise SubstitutionError(f"the environment variable {name} is not UTF-8 text")
        self.names.append(name)
        return value
