"""Reading one object of a configuration: every problem is kept, with its path, and nothing is read twice."""

from collections.abc import Collection, Mapping
from math import isfinite

from stepflow.errors import Problem
from stepflow.flow.model import Path
from stepflow.flow.path import format_path
from stepflow.plan.suggest import did_you_mean
from stepflow.records import Json


class Problems:
    """What was found wrong or doubtful so far, and which strings came out of the environment."""

    def __init__(self, substituted: Collection[Path] = ()) -> None:
        self.found: list[Problem] = []
        self.substituted = frozenset(substituted)

    def add(self, path: Path, message: str, remedy: str | None = None, *, level: str = "error") -> None:
        self.found.append(Problem(message=message, path=format_path(path), remedy=remedy, level=level))

    def warn(self, path: Path, message: str, remedy: str | None = None) -> None:
        self.add(path, message, remedy, level="warning")


class Section:
    """An object of the configuration. A key that has the wrong type is a problem, and reads as absent."""

    def __init__(self, value: Json, path: Path, problems: Problems) -> None:
        self.path = path
        self.problems = problems
        if not isinstance(value, Mapping):
            problems.add(path, f"{self.name} has to be an object with keys, not {kind(value)}")
            value = {}
        self._value: Mapping[str, Json] = value
        self._asked: list[str] = []
        self._typed: dict[str, Json] = {}  # what text of the environment stood for

    @property
    def name(self) -> str:
        return str(self.path[-1]) if self.path else "a configuration"

    @property
    def is_empty(self) -> bool:
        return not self._value

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._value)

    def without(self, *keys: str) -> dict[str, Json]:
        """Everything but these keys, numbers as they were read."""
        return {name: self._typed.get(name, value) for name, value in self._value.items() if name not in keys}

    def has(self, key: str) -> bool:
        return key in self._value

    def get(self, key: str, *, required: bool = False, nullable: bool = True) -> Json:
        """The raw value; None when it is absent or null."""
        self._asked.append(key)
        value = self._value.get(key)
        if value is None and (required or (not nullable and key in self._value)):
            said = "must not be null" if key in self._value else "is missing"
            self.problems.add((*self.path, key) if key in self._value else self.path, f"{key} {said}")
        return value

    def text(self, key: str, *, required: bool = False, nullable: bool = True) -> str | None:
        value = self.get(key, required=required, nullable=nullable)
        if value is None or isinstance(value, str):
            if value == "":
                self._refuse(key, "must not be empty")
            return value or None
        self._refuse(key, f"has to be text, not {kind(value)}")
        return None

    def texts(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        value = self.get(key, required=required)
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            self._refuse(key, f"has to be a list of texts, not {kind(value)}")
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.problems.add((*self.path, key, index), f"{key} has to hold texts, not {kind(item)}")
        return tuple(item for item in value if isinstance(item, str))

    def text_map(self, key: str) -> dict[str, str]:
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._refuse(key, f"has to be an object of texts, not {kind(value)}")
            return {}
        for name, item in value.items():
            if not isinstance(item, str):
                self.problems.add(
                    (*self.path, key, name), f"{name} has to be text, not {kind(item)}", "put the value in quotes"
                )
        return {name: item for name, item in value.items() if isinstance(item, str)}

    def integer(self, key: str, default: int, *, least: int = 0, nullable: bool = True) -> int:
        value = self._number_from_text(key, self.get(key, nullable=nullable))
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self._refuse(key, f"has to be a whole number, not {kind(value)}")
            return default
        if value < least:
            self._refuse(key, f"has to be at least {least}")
            return default
        self._typed[key] = value
        return value

    def number(self, key: str, default: float, *, above: float | None = None) -> float:
        """A finite number from 0 on, or above `above`."""
        value = self._number_from_text(key, self.get(key))
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
            self._refuse(key, f"has to be a number, not {kind(value)}")
            return default
        if value < 0 or (above is not None and value <= above):
            self._refuse(key, f"has to be above {above:g}" if above is not None else "must not be negative")
            return default
        return value

    def flag(self, key: str, default: bool, *, nullable: bool = True) -> bool:
        value = self.get(key, nullable=nullable)
        if isinstance(value, str) and (*self.path, key) in self.problems.substituted:
            value = {"true": True, "false": False}.get(value.lower(), value)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self._refuse(key, f"has to be true or false, not {kind(value)}")
        return default

    def section(self, key: str) -> "Section | None":
        """None when it is absent or null."""
        value = self.get(key)
        return None if value is None else Section(value, (*self.path, key), self.problems)

    def warn_unknown(self, known: Collection[str] = ()) -> None:
        """Warn about keys that nobody asked for; call it last."""
        known = list(dict.fromkeys((*self._asked, *known)))
        for key in self._value:
            if key not in known:
                near = did_you_mean(key, known)
                remedy = f'did you mean "{near}"?' if near else f"known here: {', '.join(known)}" if known else None
                self.problems.warn((*self.path, key), f'"{key}" is not a key of {self.name} and is ignored', remedy)

    def _refuse(self, key: str, message: str) -> None:
        self.problems.add((*self.path, key), f"{key} {message}")

    def _number_from_text(self, key: str, value: Json) -> Json:
        """Text that came out of the environment may stand for a number."""
        if not isinstance(value, str) or (*self.path, key) not in self.problems.substituted:
            return value
        try:
            return int(value)
        except ValueError:
            pass
        try:
            return float(value)
        except ValueError:
            return value


def kind(value: Json) -> str:
    """What a value is, without showing it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list | tuple) else "an object"
