"""What is wrong or doubtful in a flow: one pure function a diagnostic, and the order they come in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from stepflow.errors import FlowInvalidError, Problem
from stepflow.flow import document
from stepflow.flow.model import (
    ArrayOf,
    Expression,
    Flow,
    InputRef,
    Literal,
    ObjectOf,
    Origin,
    Path,
    Schemas,
    StepRef,
    VariableRef,
)
from stepflow.flow.path import format_path
from stepflow.flow.read import flow_from_json
from stepflow.flow.schema import SchemaError, pointer_text, schema_error
from stepflow.plan.suggest import did_you_mean
from stepflow.plan.uses import Use, uses
from stepflow.plan.variables import VariableInfo, declared
from stepflow.records import Json

OUTPUT = "workflow_output"
"""Stands in a diagnostic's data for the flow's output, where a step's id would stand."""

_KINDS = {
    1000: "unreachableStep",
    1001: "missingFlowName",
    1002: "missingFlowDescription",
    1003: "unvalidatedFieldAccess",
    1004: "missingVariableSchema",
    1005: "shadowedVariableDefault",
    1101: "typeCheckIndeterminate",
    1200: "noPluginsConfigured",
    1201: "noRoutingRulesConfigured",
    1202: "unusedPlugin",
    2002: "schemaViolation",
    2003: "invalidSubflowLiteral",
    2004: "undefinedVariable",
    2005: "undefinedRequiredVariable",
    2100: "typeMismatch",
    2101: "unknownPropertyInPath",
    2200: "invalidRouteReference",
    2500: "invalidComponent",
    3000: "duplicateStepId",
    3001: "emptyStepId",
    3002: "selfReference",
    3003: "undefinedStepReference",
}
_LEVELS = {1: "warning", 2: "error", 3: "fatal"}
_INNER_FLOWS = (("map", "workflow"), ("iterate", "flow"), ("put_blob", "data"))
_EXPERIMENTAL = frozenset({1003})


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """One finding of the catalogue. The level follows from the code: 1xxx warning, 2xxx error, 3xxx fatal."""

    kind: str
    code: int
    level: str
    message: str  # one sentence, with the suggestion where there is one
    path: str = ""
    data: dict[str, Json] = {}
    experimental: bool = False
    place: Path = ()  # where it is written in the document
    remedy: str | None = None

    def to_json(self) -> dict[str, Json]:
        """The form of the interfaces, `formatted` being the message."""
        shown: dict[str, Json] = {"kind": self.kind, "code": self.code, "level": self.level, "formatted": self.message}
        if self.data:
            shown["data"] = self.data
        if self.path:
            shown["path"] = self.path
        return {**shown, "experimental": self.experimental}


Found: TypeAlias = Iterator[Diagnostic]


def diagnostic(
    code: int,
    message: str,
    path: Path = (),
    *,
    place: Path | None = None,
    suggestion: str | None = None,
    remedy: str | None = None,
    data: dict[str, Json] | None = None,
) -> Diagnostic:
    """A finding with kind, level and texts as the catalogue has them."""
    meant = f'did you mean "{suggestion}"?' if suggestion is not None else None
    return Diagnostic(
        kind=_KINDS[code],
        code=code,
        level=_LEVELS[code // 1000],
        message=f"{message}; {meant}" if meant else message,
        path=path_text(path),
        data=data or {},
        experimental=code in _EXPERIMENTAL,
        place=path if place is None else place,
        remedy=meant or remedy,
    )


def path_text(path: Path) -> str:
    """A document path as diagnostics show it; empty for the document itself."""
    return "$" + "".join(_part_text(part) for part in path) if path else ""


def _part_text(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f'["{part}"]' if any(mark in part for mark in ".[]") else f".{part}"


def check(flow: Flow) -> tuple[Diagnostic, ...]:
    """Everything the catalogue has to say about a flow and the flows written inside it, in the catalogue's order."""
    found: list[Diagnostic] = []
    for each in (duplicate_step_ids, empty_step_ids, missing_name, missing_description, bad_references):
        found.extend(each(flow))
    for each in (invalid_components, unreachable_steps, bad_subflows, invalid_schemas):
        found.extend(each(flow))
    return tuple(found)


def duplicate_step_ids(flow: Flow) -> Found:
    seen: dict[str, int] = {}
    for index, step in enumerate(flow.steps):
        if step.id in seen:
            message = f'step id "{step.id}" is used twice'
            remedy = f"steps[{seen[step.id]}] has it already; give every step an id of its own"
            yield diagnostic(3000, message, ("steps", index, "id"), remedy=remedy, data={"step_id": step.id})
        seen.setdefault(step.id, index)


def empty_step_ids(flow: Flow) -> Found:
    for index, step in enumerate(flow.steps):
        if not step.id.strip():
            yield diagnostic(3001, f"the id of steps[{index}] is blank", ("steps", index, "id"), remedy="name the step")


def missing_name(flow: Flow) -> Found:
    if flow.name is None or not flow.name.strip():
        yield diagnostic(1001, "the flow has no name", ("name",))


def missing_description(flow: Flow) -> Found:
    if flow.description is None:
        yield diagnostic(1002, "the flow has no description", ("description",))


class _Scope(msgspec.Struct, frozen=True):
    """What the references of a flow can name."""

    flow: Flow
    first: dict[str, int]  # the index of each step id's first use
    variables: dict[str, VariableInfo]

    def owner(self, use: Use) -> str:
        return OUTPUT if use.step is None else self.flow.steps[use.step].id

    def before(self, use: Use) -> int:
        """How many steps a reference may name."""
        return len(self.flow.steps) if use.step is None else use.step


def bad_references(flow: Flow) -> Found:
    """References to what is not there, or not known to be; and, once, variables without any schema."""
    first = {step.id: index for index, step in reversed(list(enumerate(flow.steps)))}
    scope = _Scope(flow, first, {info.name: info for info in declared(flow)})
    has_schema = flow.schemas.variables is not None
    undeclared = False
    for use in uses(flow):
        match use.ref:
            case StepRef():
                yield from _step_findings(use, use.ref, scope)
            case InputRef():
                yield from unvalidated_access(use, scope)
            case VariableRef(path) if has_schema or not path or not isinstance(path[0], str):
                yield from _variable_findings(use, use.ref, scope)
            case VariableRef() if not undeclared:
                undeclared = True
                yield missing_variable_schema()


def _step_findings(use: Use, ref: StepRef, scope: _Scope) -> Found:
    if use.step is not None and scope.owner(use) == ref.step:
        yield self_reference(use, ref)
    elif scope.first.get(ref.step, len(scope.flow.steps)) >= scope.before(use):
        yield undefined_reference(use, ref, scope)
    else:
        yield from unvalidated_access(use, scope)


def _variable_findings(use: Use, ref: VariableRef, scope: _Scope) -> Found:
    info = scope.variables.get(str(ref.path[0])) if ref.path else None
    if info is None:
        yield undefined_variable(use, ref, scope.owner(use), scope.variables)
        return
    if info.implied and ref.default is not None:
        yield shadowed_default(use, info, scope)
    yield from unvalidated_access(use, scope)


def self_reference(use: Use, ref: StepRef) -> Diagnostic:
    message = f'step "{ref.step}" refers to itself'
    remedy = "a step may refer only to the input, to variables and to steps before it"
    return diagnostic(3002, message, use.path, place=use.place, remedy=remedy, data={"step_id": ref.step})


def undefined_reference(use: Use, ref: StepRef, scope: _Scope) -> Diagnostic:
    owner = scope.owner(use)
    suggestion, remedy = None, None
    if ref.step in scope.first:
        message = f'step "{ref.step}" is listed after step "{owner}", which refers to it'
        remedy = f'move step "{ref.step}" up: a step may refer only to steps before it'
    else:
        message = f'step "{ref.step}" is not defined'
        suggestion = did_you_mean(ref.step, [step.id for step in scope.flow.steps[: scope.before(use)]])
        if _is_in_unquoted_flow(use, scope.flow):
            suggestion, remedy = None, "wrap the inner flow in $literal: its references are read as this flow's"
    data: dict[str, Json] = {"from_step": owner, "referenced_step": ref.step}
    return diagnostic(3003, message, use.path, place=use.place, suggestion=suggestion, remedy=remedy, data=data)


def _is_in_unquoted_flow(use: Use, flow: Flow) -> bool:
    """Whether the reference stands in a flow that was written into an input without quoting it."""
    if use.step is None or len(use.path) < 5:
        return False
    return (flow.steps[use.step].component.rsplit("/", 1)[-1], use.path[3]) in _INNER_FLOWS


def unvalidated_access(use: Use, scope: _Scope) -> Found:
    """A path into something that no schema describes here."""
    match use.ref:
        case StepRef(step, path) if path:
            field, reason = path, f'the output of step "{step}" is not checked against a schema here'
        case InputRef(path) if path and scope.flow.schemas.input is None:
            field, reason = path, "the flow declares no input schema"
        case VariableRef(path) if len(path) > 1:
            field, reason = path[1:], f'what is inside variable "{path[0]}" is not checked here'
        case _:
            return
    owner, shown = scope.owner(use), format_path(field)
    message = f"access to {shown} is not validated: {reason}"
    yield diagnostic(
        1003, message, use.path, place=use.place, data={"step_id": owner, "field": shown, "reason": reason}
    )


def missing_variable_schema() -> Diagnostic:
    return diagnostic(
        1004,
        "the flow uses variables but declares none",
        ("schemas", "properties", "variables"),
        remedy="declare them under schemas.properties.variables.properties",
    )


def shadowed_default(use: Use, info: VariableInfo, scope: _Scope) -> Diagnostic:
    implied = msgspec.json.encode(info.default).decode()
    message = f'the default written here is never used: variable "{info.name}" is {implied} when it is not given'
    remedy = f'give "{info.name}" a default in the schema, or list it under required'
    data: dict[str, Json] = {"variable": info.name, "context": scope.owner(use)}
    return diagnostic(1005, message, use.path, place=use.place, remedy=remedy, data=data)


def undefined_variable(use: Use, ref: VariableRef, owner: str, known: Iterable[str]) -> Diagnostic:
    data: dict[str, Json] = {"variable": str(ref.path[0]) if ref.path else "", "context": owner}
    if not ref.path or not isinstance(ref.path[0], str):
        message = f"{format_path(ref.path)} does not begin with a variable's name"
        return diagnostic(2005, message, use.path, place=use.place, remedy="write $variable: name", data=data)
    name = ref.path[0]
    suggestion = did_you_mean(name, known)
    remedy = "declare it under schemas.properties.variables.properties"
    code, without = (2005, " and has no default") if ref.default is None else (2004, "")
    message = f'variable "{name}" is not declared{without}'
    return diagnostic(code, message, use.path, place=use.place, suggestion=suggestion, remedy=remedy, data=data)


def invalid_components(flow: Flow) -> Found:
    for index, step in enumerate(flow.steps):
        if not step.component.startswith("/"):
            error = 'a component path begins with "/"' if step.component else "the component path is empty"
            message = f'step "{step.id}": component "{step.component}" is not a path: {error}'
            data: dict[str, Json] = {"step_id": step.id, "component": step.component, "error": error}
            remedy = f'write "/{step.component}"' if step.component else None
            yield diagnostic(2500, message, ("steps", index, "component"), remedy=remedy, data=data)


def unreachable_steps(flow: Flow) -> Found:
    named = {use.ref.step for use in uses(flow) if isinstance(use.ref, StepRef)}
    for index, step in enumerate(flow.steps):
        if step.id not in named and not step.must_execute:
            message = f'step "{step.id}" is never used'
            remedy = "refer to it from a later step or the output, or set mustExecute: true"
            yield diagnostic(1000, message, ("steps", index), remedy=remedy, data={"step_id": step.id})


def invalid_schemas(flow: Flow) -> Found:
    """Schemas that are no JSON Schemas, or refer to what is not there: the first fault of each."""
    schemas, at = flow.schemas, ("schemas", "properties")
    if _all_usable(schemas):
        return
    bad = _bad_definitions(schemas.defs)
    for name, error in bad.items():
        yield _schema_violation(("schemas", "$defs", name), error)
    sound = {name: True if name in bad else schema for name, schema in schemas.defs.items()}
    faces = (("input", schemas.input), ("output", schemas.output), ("variables", schemas.variables))
    written: list[tuple[Path, Json]] = [((*at, name), schema) for name, schema in faces if schema is not None]
    written += [((*at, "steps", "properties", id), schema) for id, schema in schemas.steps.items()]
    for path, schema in written:
        fault = schema_error(schema, sound)
        if fault is not None:
            yield _schema_violation(path, fault)


def _all_usable(schemas: Schemas) -> bool:
    """Whether all can be used, asked at once: one by one takes time by the square of the definitions."""
    faces = (schemas.input, schemas.output, schemas.variables, *schemas.steps.values())
    written: list[Json] = [{"$ref": f"#/$defs/{pointer_text(name)}"} for name in schemas.defs]
    written += [schema for schema in faces if schema is not None]
    if any(isinstance(schema, dict) and "$defs" in schema for schema in faces):
        return False  # references mean something else in each of them
    return not written or schema_error({"allOf": written}, schemas.defs) is None


def _bad_definitions(defs: Mapping[str, Json]) -> dict[str, SchemaError]:
    """The definitions that are at fault themselves, not by one that they refer to."""
    bad: dict[str, SchemaError] = {}
    looked_at = -1
    while looked_at != len(bad):  # a fault found hides those of the definitions that refer to it no longer
        looked_at = len(bad)
        sound = {name: True if name in bad else schema for name, schema in defs.items()}
        for name, schema in defs.items():
            error = None if name in bad else schema_error(schema, sound)
            if error is not None and error.path[:1] != ("schemas",):
                bad[name] = error
    return bad


def _schema_violation(path: Path, error: SchemaError) -> Diagnostic:
    message = f"{path_text(path)} is not a usable JSON Schema: {error}"
    return diagnostic(2002, message, path, place=(*path, *error.path), data={"error": str(error)})


def bad_subflows(flow: Flow) -> Found:
    """The findings of flows that are written as data into a step's input, their paths made the outer flow's."""
    for index, step in enumerate(flow.steps):
        for at, written in _subflows(step.component, step.input, ("steps", index, "input")):
            try:
                inner = flow_from_json(written) if isinstance(written, dict) else None
                error = "a flow is an object"
            except FlowInvalidError as invalid:
                inner, error = None, "; ".join(f"{each.message} (at {each.path})" for each in invalid.problems)
            if inner is None:
                message = f'step "{step.id}": the flow in its input cannot be read: {error}'
                yield diagnostic(2003, message, at, data={"error": error})
                continue
            for found in check(inner):
                path = path_text(at) + found.path.removeprefix("$")
                yield msgspec.structs.replace(found, path=path, place=(*at, *found.place))


def _subflows(component: str, input: Expression, at: Path) -> Iterator[tuple[Path, Json]]:
    """The flow in a step's input, with its place. None where it is computed while running or named by its id."""
    fields, at = _input_fields(input, at)
    match component:
        case "/builtin/put_blob" | "/put_blob" if constant(fields.get("blob_type")) == ("flow",):
            field = "data"
        case "/builtin/map" | "/map":
            field = "workflow"
        case "/builtin/iterate" | "/iterate":
            field = "flow"
        case _:
            return
    written = fields.get(field)
    value = constant(written)
    if value is not None and (field == "data" or isinstance(value[0], dict)):
        quoted = isinstance(written, Literal) and written.quoted
        yield (*at, field, "$literal") if quoted else (*at, field), value[0]


def _input_fields(input: Expression, at: Path) -> tuple[dict[str, Expression], Path]:
    match input:
        case ObjectOf(fields):
            return dict(fields), at
        case Literal(dict() as value, True):
            return {name: Literal(part) for name, part in value.items()}, (*at, "$literal")
        case _:
            return {}, at


def constant(expression: Expression | None) -> tuple[Json] | None:
    """The value of an expression that refers to nothing, in a tuple of one to tell null from no value."""
    match expression:
        case Literal(value):
            return (value,)
        case ArrayOf(items):
            values = [constant(item) for item in items]
            return ([value[0] for value in values if value],) if all(values) else None
        case ObjectOf(fields):
            named = {name: constant(field) for name, field in fields}
            return ({name: value[0] for name, value in named.items() if value},) if all(named.values()) else None
        case _:
            return None


def located(diagnostics: Sequence[Diagnostic], flow: Flow) -> tuple[Problem, ...]:
    """The diagnostics as problems of the flow's document: file, line, column, the line's text and what to do."""
    return located_in(diagnostics, flow.origin)


def located_in(diagnostics: Sequence[Diagnostic], origin: Origin) -> tuple[Problem, ...]:
    """As `located`, for any document."""
    problems = document.located([_problem(each) for each in diagnostics], origin)
    return tuple(
        msgspec.structs.replace(problem, path=each.path or "$")
        for problem, each in zip(problems, diagnostics, strict=True)
    )


def _problem(found: Diagnostic) -> Problem:
    return Problem(
        message=found.message.removesuffix(f"; {found.remedy}"),
        path=format_path(found.place),
        code=found.code,
        level=found.level,
        remedy=found.remedy,
    )
