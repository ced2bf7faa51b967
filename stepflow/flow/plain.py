"""Values of any origin become plain JSON: copied, checked, whole numbers made integers."""

from collections.abc import Mapping

from stepflow.flow.fields import Findings
from stepflow.flow.identity import recovered
from stepflow.flow.marked import FLATTER, MAX_DEPTH
from stepflow.flow.model import Path
from stepflow.records import Json

_MAX_VALUES = 10_000_000
"""Beyond this a document given as objects must hold the same ones over and over."""

_ONLY = "use objects, arrays, strings, numbers, booleans and null"


def plain_json(value: object, findings: Findings) -> Json:
    """A copy of the value as plain JSON, with null for what is not JSON; each such place is refused."""
    return _Copier(findings).copy(value, ())


class _Copier:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.left = _MAX_VALUES
        self.around: list[object] = []  # the collections that hold the one being copied

    def copy(self, value: object, at: Path) -> Json:
        match value:
            case None | bool():
                return value
            case str():
                return self._string(value, at)
            case int():
                return self._integer(int(value), at)
            case float():
                return self._number(float(value), at)
            case list() | tuple() | Mapping():
                return self._collection(value, at)
            case _:
                return self._refuse(at, f"a value of type {type(value).__name__} is not JSON", _ONLY)

    def _collection(self, value: "list[object] | tuple[object, ...] | Mapping[object, object]", at: Path) -> Json:
        if any(value is outer for outer in self.around):
            return self._refuse(at, "the value holds itself", "write it out")
        if len(at) >= MAX_DEPTH:
            return self._refuse(at, f"nested deeper than {MAX_DEPTH} levels", FLATTER)
        if len(value) > self.left:
            if self.left >= 0:
                self._refuse((), f"the document has more than {_MAX_VALUES:,} values", FLATTER)
            self.left = -1
            return None
        self.left -= len(value)
        self.around.append(value)
        try:
            if not isinstance(value, Mapping):
                return [self.copy(item, (*at, index)) for index, item in enumerate(value)]
            return {(key := self._key(name, at)): self.copy(item, (*at, key)) for name, item in value.items()}
        finally:
            self.around.pop()

    def _key(self, name: object, at: Path) -> str:
        if not isinstance(name, str):
            self._refuse(at, f"a key is a string, not {name!r}"[:200], "make it a string")
            return str(name)
        return self._string(name, at)

    def _string(self, text: str, at: Path) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            self._refuse(at, "a string holds half of a surrogate pair", "write both halves, or neither")
            return ""
        return str.__str__(text)

    def _integer(self, number: int, at: Path) -> Json:
        if -(2**63) <= number < 2**64:
            return number
        return self._refuse(at, "an integer does not fit in 64 bits", "write it as a string")

    def _number(self, number: float, at: Path) -> Json:
        if number - number != 0:
            return self._refuse(at, f"JSON has no {number}", "write null or a string")
        return recovered(number)

    def _refuse(self, at: Path, message: str, remedy: str | None = None) -> Json:
        self.findings.refuse(at, message, remedy)
        return None
