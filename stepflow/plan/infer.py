"""Schemas that a flow leaves out, worked out from its components."""

from collections.abc import Iterator

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
from stepflow.flow.path import format_path
from stepflow.plan.checks import OUTPUT, Diagnostic, diagnostic
from stepflow.plan.notation import type_text
from stepflow.plan.projection import Missing, project
from stepflow.plan.shared_root import SharedRoot, all_of
from stepflow.plan.standalone import standalone
from stepflow.plan.subtype import is_subtype
from stepflow.plan.types import FindComponent, FlowTypes, flow_types
from stepflow.records import Json

_DEEPEST = 40  # levels of an input schema that is made up; a document may be nested little deeper
_LONGEST = 50  # items that are described one by one


class InferredStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step's types as people read them."""

    id: str
    input: str  # what the flow gives it
    accepts: str  # what its component takes
    output: str


class Inferred(msgspec.Struct, frozen=True, kw_only=True):
    """A flow with the schemas filled in that were missing and could be told."""

    flow: Flow
    steps: tuple[InferredStep, ...]
    output: str
    diagnostics: tuple[Diagnostic, ...]  # of the type check
    conflicts: tuple[Diagnostic, ...]  # places of the input that are read as types that exclude each other


def infer(flow: Flow, components: FindComponent, *, strict: bool = False) -> Inferred:
    """Fill in step output schemas, the output schema and the input schema; what is written stays as it is."""
    types = flow_types(flow, components, strict=strict)
    defs, schemas = flow.schemas.defs, flow.schemas
    outputs = {
        step.id: written
        for step, output in zip(flow.steps, types.outputs, strict=True)
        if step.id not in schemas.steps and (written := standalone(output, types.root, defs)) is not True
    }
    output, input = schemas.output, schemas.input
    conflicts: tuple[Diagnostic, ...] = ()
    if output is None:
        output = _unless_any(standalone(types.output, types.root, defs))
    if input is None:
        input, conflicts = _input_schema(flow, types)
    filled = msgspec.structs.replace(schemas, input=input, output=output, steps={**schemas.steps, **outputs})
    return Inferred(
        flow=msgspec.structs.replace(flow, schemas=filled),
        steps=_texts(flow, types),
        output=type_text(types.output, types.root),
        diagnostics=types.diagnostics,
        conflicts=conflicts,
    )


def _unless_any(schema: Json) -> Json:
    return None if schema is True else schema


def _texts(flow: Flow, types: FlowTypes) -> tuple[InferredStep, ...]:
    return tuple(
        InferredStep(
            id=step.id,
            input=type_text(types.inputs[index], types.root),
            accepts=type_text(types.accepted[index], types.root),
            output=type_text(types.outputs[index], types.root),
        )
        for index, step in enumerate(flow.steps)
    )


class _Reading(msgspec.Struct, frozen=True):
    """One place where the flow reads its input."""

    path: Path  # in the input
    wanted: Json  # what the reader takes
    at: Path  # of the expression
    owner: str
    is_sure: bool  # every item reads it


def _input_schema(flow: Flow, types: FlowTypes) -> tuple[Json, tuple[Diagnostic, ...]]:
    tree = _Node()
    sure = _sure_steps(flow)
    for index, step in enumerate(flow.steps):
        place: Path = ("steps", index, "input")
        for reading in _readings(step.input, types.accepted[index], place, step.id, types.root, step.id in sure):
            tree.add(reading)
    wanted = True if flow.schemas.output is None else types.root.adopt("output", flow.schemas.output)
    for reading in _readings(flow.output, wanted, ("output",), OUTPUT, types.root, True):
        tree.add(reading)
    conflicts: list[Diagnostic] = []
    schema = tree.schema(types.root, (), conflicts)
    return _unless_any(standalone(schema, types.root, flow.schemas.defs)), tuple(conflicts)


def _sure_steps(flow: Flow) -> set[str]:
    """The steps that every item runs, whatever its values."""
    by_id = {step.id: step for step in reversed(flow.steps)}
    found: set[str] = set()
    waiting = [step.id for step in flow.steps if step.must_execute] + list(_sure_names(flow.output))
    while waiting:
        id = waiting.pop()
        if id in by_id and id not in found:
            found.add(id)
            waiting.extend(_sure_names(by_id[id].input))
    return found


def _sure_names(expression: Expression) -> Iterator[str]:
    match expression:
        case StepRef(step):
            yield step
        case If(condition):
            yield from _sure_names(condition)
        case Coalesce(choices):
            yield from _sure_names(choices[0]) if choices else ()
        case ArrayOf(items):
            for item in items:
                yield from _sure_names(item)
        case ObjectOf(fields):
            for _, field in fields:
                yield from _sure_names(field)
        case _:
            return


def _readings(
    expression: Expression, wanted: Json, at: Path, owner: str, root: SharedRoot, is_sure: bool
) -> Iterator[_Reading]:
    match expression:
        case InputRef(path):
            yield _Reading(path, wanted, at, owner, is_sure)
        case Literal() | StepRef():
            return
        case VariableRef(_, default):
            if default is not None:
                yield from _readings(default, wanted, at, owner, root, False)
        case If(condition, then, otherwise):
            yield from _readings(condition, True, (*at, "condition"), owner, root, False)  # a failed one is false
            yield from _readings(then, wanted, (*at, "then"), owner, root, False)
            if otherwise is not None:
                yield from _readings(otherwise, wanted, (*at, "else"), owner, root, False)
        case Coalesce(choices):
            for index, choice in enumerate(choices):
                yield from _readings(choice, True, (*at, index), owner, root, is_sure and not index)
        case ArrayOf(items):
            for index, item in enumerate(items):
                yield from _readings(item, _part(wanted, index, root), (*at, index), owner, root, is_sure)
        case ObjectOf(fields):
            for name, field in fields:
                yield from _readings(field, _part(wanted, name, root), (*at, name), owner, root, is_sure)


def _part(wanted: Json, part: str | int, root: SharedRoot) -> Json:
    found = project(wanted, (part,), root)
    return True if isinstance(found, Missing) else found


class _Node:
    """What is read of one place of the input."""

    def __init__(self) -> None:
        self.fields: dict[str, _Node] = {}
        self.items: dict[int, _Node] = {}
        self.readings: list[_Reading] = []
        self.is_sure = False

    def add(self, reading: _Reading) -> None:
        node = self
        node.is_sure |= reading.is_sure
        for part in reading.path[:_DEEPEST]:
            node = (
                node.fields.setdefault(part, _Node()) if isinstance(part, str) else node.items.setdefault(part, _Node())
            )
            node.is_sure |= reading.is_sure
        if len(reading.path) <= _DEEPEST:
            node.readings.append(reading)

    def schema(self, root: SharedRoot, path: Path, conflicts: list[Diagnostic]) -> Json:
        wanted = _narrowest(self.readings, root, path, conflicts)
        shapes: list[Json] = []
        if self.fields:
            fields = {name: node.schema(root, (*path, name), conflicts) for name, node in self.fields.items()}
            required: list[Json] = [name for name, node in self.fields.items() if node.is_sure]
            shape: dict[str, Json] = {"type": "object", "properties": fields}
            shapes.append({**shape, "required": required} if required else shape)
        if self.items:
            shapes.append(self._array(root, path, conflicts))
        return all_of([*shapes, wanted])

    def _array(self, root: SharedRoot, path: Path, conflicts: list[Diagnostic]) -> dict[str, Json]:
        nodes = {index: node.schema(root, (*path, index), conflicts) for index, node in sorted(self.items.items())}
        last = max(nodes)
        if last >= _LONGEST:
            return {"type": "array"}
        least = max((index + 1 for index, node in self.items.items() if node.is_sure), default=0)
        shape: dict[str, Json] = {"type": "array", "prefixItems": [nodes.get(index, True) for index in range(last + 1)]}
        return {**shape, "minItems": least} if least else shape


def _narrowest(readings: list[_Reading], root: SharedRoot, path: Path, conflicts: list[Diagnostic]) -> Json:
    """What satisfies every reader of one place. Readers that exclude each other are reported, and leave it open."""
    found: list[tuple[Json, _Reading]] = []
    for reading in readings:
        if reading.wanted is True or any(is_subtype(kept, reading.wanted, root).holds for kept, _ in found):
            continue
        found = [(kept, each) for kept, each in found if not is_subtype(reading.wanted, kept, root).holds]
        other = next((each for kept, each in found if _excludes(kept, reading.wanted, root)), None)
        if other is not None:
            conflicts.append(_conflict(path, other, reading, root))
            return True
        found.append((reading.wanted, reading))
    return all_of([kept for kept, _ in found])


def _excludes(one: Json, other: Json, root: SharedRoot) -> bool:
    return is_subtype(one, other, root).holds is False and is_subtype(other, one, root).holds is False


def _conflict(path: Path, first: _Reading, second: _Reading, root: SharedRoot) -> Diagnostic:
    here, there = type_text(second.wanted, root), type_text(first.wanted, root)
    detail = f'"{first.owner}" reads it as {there}, "{second.owner}" as {here}'
    return diagnostic(
        2100,
        f"the input at {format_path(path)} is read as types that exclude each other: {detail}",
        second.at,
        data={"step_id": second.owner, "expected": here, "actual": there, "detail": detail},
    )
