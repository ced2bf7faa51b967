"""How JSON becomes an expression, and an expression JSON again."""

from collections.abc import Callable
from typing import assert_never

from stepflow.errors import FlowInvalidError, Problem
from stepflow.flow.marked import FLATTER, MAX_DEPTH
from stepflow.flow.model import (
    ArrayOf,
    Coalesce,
    Expression,
    If,
    InputRef,
    Literal,
    ObjectOf,
    Path,
    StepRef,
    VariableRef,
)
from stepflow.flow.path import PathError, format_path, parse_path
from stepflow.flow.words import closest, shorten
from stepflow.records import Json

_NOTHING = Literal(None)

_FORMS: dict[str, tuple[str, ...]] = {
    "$literal": (),
    "$if": ("then", "else"),
    "$coalesce": (),
    "$from": (),
    "$step": ("path",),
    "$input": (),
    "$variable": ("default",),
}
"""The keys that make an object an expression, the strongest first, and the keys that belong to each."""

_MEANT = {
    "$var": "did you mean `$variable`?",
    "$steps": "did you mean `$step`?",
    "$else": "did you mean `else`, beside `$if`?",
    "$then": "did you mean `then`, beside `$if`?",
    "$expr": "there is no `$expr`; write the expression itself",
    "$on_skip": "steps are not skipped; use `$if` or `$coalesce`",
}


def parse_expression(
    value: Json,
    at: Path = (),
    problems: list[Problem] | None = None,
    warnings: list[Problem] | None = None,
) -> Expression:
    """Read JSON as an expression. `at` is its place in the document.

    What is wrong is added to `problems`, and null stands for it in the answer; what is ignored or looks misspelt is
    added to `warnings`.

    Raises:
        FlowInvalidError: something is wrong and no list of problems was given.
    """
    reader = _Reader([] if problems is None else problems, [] if warnings is None else warnings)
    expression = reader.read(value, at, 0)
    if problems is None and reader.problems:
        raise FlowInvalidError(reader.problems)
    return expression


class _Reader:
    """Reads one expression and keeps what is wrong with it."""

    def __init__(self, problems: list[Problem], warnings: list[Problem]) -> None:
        self.problems = problems
        self.warnings = warnings

    def read(self, value: Json, at: Path, depth: int) -> Expression:
        if not isinstance(value, list | dict):
            return Literal(value)
        if depth >= MAX_DEPTH:
            return self._refuse(at, f"nested deeper than {MAX_DEPTH} levels", FLATTER)
        if isinstance(value, list):
            return ArrayOf(tuple(self.read(item, (*at, i), depth + 1) for i, item in enumerate(value)))
        return self._object(value, at, depth + 1)

    def _object(self, value: dict[str, Json], at: Path, depth: int) -> Expression:
        form = next((key for key in _FORMS if key in value), None)
        self._note_ignored(value, form, at)
        match form:
            case None:
                return ObjectOf(tuple((name, self.read(item, (*at, name), depth)) for name, item in value.items()))
            case "$literal":
                return Literal(value["$literal"], quoted=True)
            case "$if":
                return self._if(value, at, depth)
            case "$coalesce":
                return self._coalesce(value["$coalesce"], at, depth)
            case "$from":
                return self._from(value, at)
            case "$step":
                return self._step(value, at)
            case "$input":
                path = self._path(value["$input"], (*at, "$input"))
                return _NOTHING if path is None else InputRef(path)
            case _:
                return self._variable(value, at, depth)

    def _note_ignored(self, value: dict[str, Json], form: str | None, at: Path) -> None:
        for key in value:
            if form is None and key.startswith("$"):
                if remedy := _misspelt(key):
                    self._warn((*at, key), f"`{shorten(key)}` is an ordinary key here", remedy)
            elif form not in (None, "$from", key) and key not in _FORMS[form or ""]:
                self._warn((*at, key), f"the key `{shorten(key)}` beside `{form}` is ignored", _beside(form or "", key))

    def _warn(self, at: Path, message: str, remedy: str | None) -> None:
        self.warnings.append(Problem(message=message, path=format_path(at), level="warning", remedy=remedy))

    def _if(self, value: dict[str, Json], at: Path, depth: int) -> Expression:
        if "then" not in value:
            return self._refuse(at, "$if has no `then`", "add then: the value where the condition holds")
        return If(
            self.read(value["$if"], (*at, "$if"), depth),
            self.read(value["then"], (*at, "then"), depth),
            self.read(value["else"], (*at, "else"), depth) if "else" in value else None,
        )

    def _coalesce(self, choices: Json, at: Path, depth: int) -> Expression:
        at = (*at, "$coalesce")
        if not isinstance(choices, list):
            return self._refuse(
                at, f"$coalesce takes an array, not {kind(choices)}", "write $coalesce: [first, second]"
            )
        return Coalesce(tuple(self.read(choice, (*at, i), depth) for i, choice in enumerate(choices)))

    def _step(self, value: dict[str, Json], at: Path) -> Expression:
        step = value["$step"]
        path = self._path(value.get("path"), (*at, "path"))
        if not isinstance(step, str):
            return self._refuse(
                (*at, "$step"), f"$step takes the id of a step, not {kind(step)}", "put the id in quotes"
            )
        return _NOTHING if path is None else StepRef(step, path)

    def _variable(self, value: dict[str, Json], at: Path, depth: int) -> Expression:
        path = self._path(value["$variable"], (*at, "$variable"))
        default = self.read(value["default"], (*at, "default"), depth) if "default" in value else None
        return _NOTHING if path is None else VariableRef(path, default)

    def _from(self, value: dict[str, Json], at: Path) -> Expression:
        return self._refuse(
            (*at, "$from"),
            "$from is no longer part of the language",
            f"write {_migrated(value)}, or wrap it in $literal to keep it as data",
        )

    def _path(self, value: Json, at: Path) -> Path | None:
        if not isinstance(value, str | None):
            self._refuse(at, f"a path is a string, not {kind(value)}", "write it as in $.name[0]")
            return None
        try:
            return parse_path(value)
        except PathError as error:
            self._refuse(at, str(error), 'write it as in $.name[0] or $["a.b"]')
            return None

    def _refuse(self, at: Path, message: str, remedy: str | None = None) -> Expression:
        self.problems.append(Problem(message=message, path=format_path(at), remedy=remedy))
        return _NOTHING


def _misspelt(key: str) -> str | None:
    near = closest(key, [form for form in _FORMS if form != "$from"])
    return _MEANT.get(key) or (f"did you mean `{near}`?" if near else None)


def _beside(form: str, key: str) -> str | None:
    if key in _FORMS:
        return f"an object is one expression, and `{form}` decided; nest them"
    if form == "$input" and key == "path":
        return "the path is the value of `$input` itself"
    if form in ("$step", "$input") and key == "default":
        return "only `$variable` has a default"
    near = closest(key, _FORMS[form])
    return f"did you mean `{near}`?" if near else None


def _migrated(value: dict[str, Json]) -> str:
    source = value["$from"]
    if isinstance(source, dict) and isinstance(source.get("step"), str):
        path = ", path: …" if value.get("path") is not None else ""
        return f"{{$step: {source['step']}{path}}}"
    if isinstance(source, dict) and "workflow" in source:
        return "{$input: …}"
    return "{$step: id, path: …} or {$input: path}"


def kind(value: Json) -> str:
    """What a JSON value is, for a sentence: `a string`, `an object`."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def expression_to_json(expression: Expression, free: Callable[[Json], Json] | None = None) -> Json:
    """The one way to write an expression: paths in full, keys without meaning gone.

    `free` is applied to each literal; with it, objects that are no form of expression have their keys sorted.
    """

    def write(part: Expression) -> Json:
        match part:
            case Literal(value, quoted):
                value = value if free is None else free(value)
                return {"$literal": value} if quoted else value
            case StepRef(step, path):
                return {"$step": step, "path": format_path(path)} if path else {"$step": step}
            case InputRef(path):
                return {"$input": format_path(path)}
            case VariableRef(path, default):
                named: dict[str, Json] = {"$variable": format_path(path)}
                return named if default is None else {**named, "default": write(default)}
            case If(condition, then, otherwise):
                branches = {"$if": write(condition), "then": write(then)}
                return branches if otherwise is None else {**branches, "else": write(otherwise)}
            case Coalesce(choices):
                return {"$coalesce": [write(choice) for choice in choices]}
            case ArrayOf(items):
                return [write(item) for item in items]
            case ObjectOf(fields):
                return {name: write(item) for name, item in (sorted(fields, key=_name) if free else fields)}
            case _:
                assert_never(part)

    return write(expression)


def _name(field: tuple[str, Expression]) -> str:
    return field[0]
