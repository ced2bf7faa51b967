"""Expressions as functions. Each kind becomes one closure for its value and one for the steps it needs."""

from collections.abc import Mapping
from typing import assert_never

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
from stepflow.flow.path import format_path
from stepflow.plan.model import PENDING, Evaluate, EvaluationFailedError, Needs, Outputs, PlannedExpression
from stepflow.records import ErrorCode, Failed, Json


class _Absent:
    """No value is there, not even null."""


_ABSENT = _Absent()


def plan_expression(expression: Expression, steps: Mapping[str, int]) -> PlannedExpression:
    """Compile one expression.

    Args:
        steps: the index of each step by its id. A name that is missing here fails when it is evaluated.
    """
    references = tuple(dict.fromkeys(_references(expression, steps)))
    is_static = _is_static(expression)
    needs = _static_needs(references) if is_static else _needs(expression, steps)
    return PlannedExpression(_evaluate(expression, steps), needs, references, is_static)


def _references(expression: Expression, steps: Mapping[str, int]) -> list[int]:
    match expression:
        case StepRef(step):
            return [steps[step]] if step in steps else []
        case Literal() | InputRef():
            return []
        case VariableRef(default=default):
            return [] if default is None else _references(default, steps)
        case If(condition, then, otherwise):
            parts = [condition, then] if otherwise is None else [condition, then, otherwise]
        case Coalesce(choices):
            parts = list(choices)
        case ArrayOf(items):
            parts = list(items)
        case ObjectOf(fields):
            parts = [value for _, value in fields]
        case _:
            assert_never(expression)
    return [index for part in parts for index in _references(part, steps)]


def _is_static(expression: Expression) -> bool:
    match expression:
        case Literal() | InputRef() | StepRef():
            return True
        case VariableRef(default=default):
            return default is None or isinstance(default, Literal | InputRef)
        case ArrayOf(items):
            return all(_is_static(item) for item in items)
        case ObjectOf(fields):
            return all(_is_static(value) for _, value in fields)
        case If() | Coalesce():
            return False
        case _:
            assert_never(expression)


def _fail(message: str, code: ErrorCode = ErrorCode.EXPRESSION_FAILURE) -> EvaluationFailedError:
    return EvaluationFailedError(Failed(code, message))


def look_up(value: Json, path: Path) -> Json | _Absent:
    """The value at a path; an absent one is not an error here."""
    for part in path:
        if type(part) is str:
            if type(value) is not dict or part not in value:
                return _ABSENT
            value = value[part]
        elif type(value) is list and type(part) is int and part < len(value):
            value = value[part]
        else:
            return _ABSENT
    return value


def _evaluate(expression: Expression, steps: Mapping[str, int]) -> Evaluate:
    match expression:
        case Literal(value):
            return lambda outputs, item, variables: value
        case StepRef(step, path):
            return _step_value(steps[step], step, path) if step in steps else _unknown_step(step)
        case InputRef(path):
            return _input_value(path)
        case VariableRef(path, default):
            return _variable_value(path, None if default is None else _evaluate(default, steps))
        case If(condition, then, otherwise):
            return _if_value(
                _evaluate(condition, steps),
                _evaluate(then, steps),
                _evaluate(Literal(None) if otherwise is None else otherwise, steps),
            )
        case Coalesce(choices):
            return _coalesce_value(tuple(_evaluate(choice, steps) for choice in choices))
        case ArrayOf(items):
            parts = tuple(_evaluate(item, steps) for item in items)
            return lambda outputs, item, variables: [part(outputs, item, variables) for part in parts]
        case ObjectOf(fields):
            named = tuple((name, _evaluate(value, steps)) for name, value in fields)
            return lambda outputs, item, variables: {name: part(outputs, item, variables) for name, part in named}
        case _:
            assert_never(expression)


def _unknown_step(step: str) -> Evaluate:
    def evaluate(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> Json:
        raise _fail(f'step "{step}" is not defined')

    return evaluate


def _step_value(index: int, step: str, path: Path) -> Evaluate:
    def whole(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> Json:
        value = outputs[index]
        if type(value) is Failed:
            raise EvaluationFailedError(value)
        return value  # type: ignore[return-value]

    def part(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> Json:
        value = outputs[index]
        if type(value) is Failed:
            raise EvaluationFailedError(value)
        if value is None:
            return None  # null stays null, whatever the path
        found = look_up(value, path)  # type: ignore[arg-type]
        if found is _ABSENT:
            raise _fail(f'the output of step "{step}" has nothing at {format_path(path)}')
        return found  # type: ignore[return-value]

    return part if path else whole


def _input_value(path: Path) -> Evaluate:
    def field(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> Json:
        if type(item) is dict and name in item:
            return item[name]
        raise _fail(f"the input has nothing at {format_path(path)}")

    def part(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> Json:
        found = look_up(item, path)
        if found is _ABSENT:
            raise _fail(f"the input has nothing at {format_path(path)}")
        return found  # type: ignore[return-value]

    if not path:
        return lambda outputs, item, variables: item
    name = path[0]
    return field if len(path) == 1 and isinstance(name, str) else part


def _find_variable(path: Path, variables: Mapping[str, Json]) -> Json | _Absent:
    name = path[0] if path else None
    if not isinstance(name, str):
        raise _fail("a variable reference begins with the variable's name", ErrorCode.ORCHESTRATOR_ERROR)
    return look_up(variables[name], path[1:]) if name in variables else _ABSENT


def _variable_value(path: Path, default: Evaluate | None) -> Evaluate:
    def evaluate(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> Json:
        found = _find_variable(path, variables)
        if found is not _ABSENT:
            return found  # type: ignore[return-value]
        if default is None:
            raise _fail(f"undefined variable: {format_path(path)}")
        return default(outputs, item, variables)

    return evaluate


def _holds(condition: Evaluate, outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> bool:
    """Only null, false and a failure are false."""
    try:
        value = condition(outputs, item, variables)
    except EvaluationFailedError:
        return False
    return value is not None and value is not False


def _if_value(condition: Evaluate, then: Evaluate, otherwise: Evaluate) -> Evaluate:
    def evaluate(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> Json:
        branch = then if _holds(condition, outputs, item, variables) else otherwise
        return branch(outputs, item, variables)

    return evaluate


def _coalesce_value(choices: tuple[Evaluate, ...]) -> Evaluate:
    def evaluate(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> Json:
        for choice in choices:
            value = choice(outputs, item, variables)
            if value is not None:
                return value
        return None

    return evaluate


def _static_needs(references: tuple[int, ...]) -> Needs:
    def needs(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> tuple[int, ...]:
        return tuple(index for index in references if outputs[index] is PENDING)

    return needs


def _needs(expression: Expression, steps: Mapping[str, int]) -> Needs:
    if _is_static(expression):
        return _static_needs(tuple(dict.fromkeys(_references(expression, steps))))
    match expression:
        case VariableRef(path, default) if default is not None:
            return _variable_needs(path, _needs(default, steps))
        case If(condition, then, otherwise):
            return _if_needs(
                _needs(condition, steps),
                _evaluate(condition, steps),
                _needs(then, steps),
                _needs(Literal(None) if otherwise is None else otherwise, steps),
            )
        case Coalesce(choices):
            return _coalesce_needs(tuple((_needs(choice, steps), _evaluate(choice, steps)) for choice in choices))
        case ArrayOf(items):
            return _union(tuple(_needs(item, steps) for item in items))
        case ObjectOf(fields):
            return _union(tuple(_needs(value, steps) for _, value in fields))
        case _:
            return _static_needs(())


def _variable_needs(path: Path, default: Needs) -> Needs:
    def needs(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> tuple[int, ...]:
        try:
            found = _find_variable(path, variables)
        except EvaluationFailedError:
            return ()
        return default(outputs, item, variables) if found is _ABSENT else ()

    return needs


def _if_needs(condition: Needs, value: Evaluate, then: Needs, otherwise: Needs) -> Needs:
    def needs(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> tuple[int, ...]:
        first = condition(outputs, item, variables)
        if first:
            return first
        branch = then if _holds(value, outputs, item, variables) else otherwise
        return branch(outputs, item, variables)

    return needs


def _coalesce_needs(choices: tuple[tuple[Needs, Evaluate], ...]) -> Needs:
    def needs(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> tuple[int, ...]:
        for choice_needs, choice_value in choices:
            first = choice_needs(outputs, item, variables)
            if first:
                return first
            try:
                if choice_value(outputs, item, variables) is not None:
                    return ()
            except EvaluationFailedError:
                return ()  # a failure ends the search: it is the result
        return ()

    return needs


def _union(parts: tuple[Needs, ...]) -> Needs:
    def needs(outputs: Outputs, item: Json, variables: Mapping[str, Json]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(index for part in parts for index in part(outputs, item, variables)))

    return needs
