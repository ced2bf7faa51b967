"""Where a flow names a step, the input or a variable."""

from collections.abc import Iterator
from typing import assert_never

import msgspec

from stepflow.flow.model import (
    ArrayOf,
    Coalesce,
    Expression,
    Flow,
    If,
    InputRef,
    Literal,
    ObjectOf,
    Path,
    StepRef,
    VariableRef,
)
from stepflow.plan.variables import step_settings


class Use(msgspec.Struct, frozen=True):
    """One place where a flow names a step, the input or a variable."""

    ref: StepRef | InputRef | VariableRef
    path: Path  # as diagnostics write it: condition, then, else; a choice is [i], a default has its variable's path
    place: Path  # as the document has it
    step: int | None  # whose input or setting this is; None: the flow's output


def uses(flow: Flow) -> Iterator[Use]:
    """Every reference of a flow: each step's input, then its settings, and the output last."""
    for index, step in enumerate(flow.steps):
        at: Path = ("steps", index)
        yield from expression_uses(step.input, (*at, "input"), (*at, "input"), index)
        for key, setting in step_settings(step):
            if isinstance(setting, VariableRef):
                yield from expression_uses(setting, (*at, *key), (*at, *key), index)
    yield from expression_uses(flow.output, ("output",), ("output",), None)


def expression_uses(expression: Expression, path: Path, at: Path, step: int | None) -> Iterator[Use]:
    """Every reference in an expression, in the order it is written; `path` and `at` as in `Use`."""
    match expression:
        case Literal():
            return
        case StepRef():
            yield Use(expression, path, (*at, "$step"), step)
        case InputRef():
            yield Use(expression, path, (*at, "$input"), step)
        case VariableRef(_, default):
            yield Use(expression, path, (*at, "$variable"), step)
            if default is not None:
                yield from expression_uses(default, path, (*at, "default"), step)
        case If(condition, then, otherwise):
            yield from expression_uses(condition, (*path, "condition"), (*at, "$if"), step)
            yield from expression_uses(then, (*path, "then"), (*at, "then"), step)
            if otherwise is not None:
                yield from expression_uses(otherwise, (*path, "else"), (*at, "else"), step)
        case Coalesce(choices):
            for index, choice in enumerate(choices):
                yield from expression_uses(choice, (*path, index), (*at, "$coalesce", index), step)
        case ArrayOf(items):
            for index, item in enumerate(items):
                yield from expression_uses(item, (*path, index), (*at, index), step)
        case ObjectOf(fields):
            for name, field in fields:
                yield from expression_uses(field, (*path, name), (*at, name), step)
        case _:
            assert_never(expression)
