"""The members of one object of a document, taken out by name and type; what is wrong or unknown is noted."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from stepflow.errors import Problem
from stepflow.flow.expression import kind
from stepflow.flow.model import Path
from stepflow.flow.path import format_path
from stepflow.flow.words import closest, shorten
from stepflow.records import Json

T = TypeVar("T")

_WRITE = {
    str: "write a string",
    bool: "write true or false, without quotes",
    list: "write an array, as in [a, b]",
    dict: "write an object, as in {key: value}",
}


class Findings:
    """What a reading found: problems, which refuse the document, and warnings about keys, which don't."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def refuse(self, path: Path, message: str, remedy: str | None = None) -> None:
        self.problems.append(Problem(message=message, path=format_path(path), remedy=remedy))

    def warn(self, path: Path, message: str, remedy: str | None = None) -> None:
        self.warnings.append(Problem(message=message, path=format_path(path), level="warning", remedy=remedy))


class Fields:
    """Takes members of an object. A null counts as absent; one of the wrong type is refused and counts as absent."""

    def __init__(self, value: Mapping[str, Json], at: Path, findings: Findings) -> None:
        self.value = value
        self.at = at
        self.findings = findings

    def string(self, name: str) -> str | None:
        return self._take(name, str, "a string")

    def boolean(self, name: str) -> bool | None:
        return self._take(name, bool, "true or false")

    def array(self, name: str) -> list[Json] | None:
        return self._take(name, list, "an array")

    def object(self, name: str) -> dict[str, Json] | None:
        return self._take(name, dict, "an object")

    def required_string(self, name: str) -> str:
        self.require(name)
        return self.string(name) or ""

    def require(self, name: str, *, nullable: bool = False) -> None:
        if name not in self.value or (self.value[name] is None and not nullable):
            self.refuse(None, f"`{name}` is missing", f"add `{name}: …`")

    def objects(self, name: str) -> list[tuple[dict[str, Json], Path]]:
        """The objects of an array with their paths; other items are refused."""
        found: list[tuple[dict[str, Json], Path]] = []
        for index, item in enumerate(self.array(name) or ()):
            path = (*self.at, name, index)
            if isinstance(item, dict):
                found.append((item, path))
            else:
                self.findings.refuse(path, f"an object is wanted here, not {kind(item)}", _WRITE[dict])
        return found

    def _take(self, name: str, wanted: type[T], described: str) -> T | None:
        value = self.value.get(name)
        if value is None or isinstance(value, wanted):
            return value
        quotable = wanted is str and not isinstance(value, list | dict)
        remedy = "put it in quotes" if quotable else _WRITE[wanted]
        self.refuse(name, f"`{name}` is {described}, not {kind(value)}", remedy)
        return None

    def refuse(self, name: str | None, message: str, remedy: str | None = None) -> None:
        self.findings.refuse(self.at if name is None else (*self.at, name), message, remedy)

    def warn_unknown(self, known: Sequence[str], advice: Mapping[str, str], silent: Sequence[str] = ()) -> None:
        """Note every key that nothing reads but the `silent` ones. `advice` says of some what to write instead."""
        for name, value in self.value.items():
            if name in known or name in silent or value is None:
                continue
            self.findings.warn(
                (*self.at, name), f"the key `{shorten(name)}` is unknown and ignored", _advice(name, known, advice)
            )

    def warn_useless(self, name: str, why: str) -> None:
        if self.value.get(name) is not None:
            self.findings.warn((*self.at, name), f"`{name}` has no effect {why}")


def _advice(name: str, known: Sequence[str], advice: Mapping[str, str]) -> str:
    if name in advice:
        return advice[name]
    if name == "<<":
        return "merge keys are not applied; write the members out"
    near = closest(name, known)
    return f"did you mean `{near}`?" if near else f"known here: {', '.join(known)}"
