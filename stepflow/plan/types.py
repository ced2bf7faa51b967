"""The static type check: what each expression gives, against what its reader takes."""

from collections.abc import Callable, Sequence
from typing import TypeAlias, assert_never

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
    Step,
    StepRef,
    VariableRef,
)
from stepflow.flow.path import format_path
from stepflow.flow.schema import schema_document
from stepflow.plan.checks import OUTPUT, Diagnostic, diagnostic, undefined_variable
from stepflow.plan.notation import type_text
from stepflow.plan.projection import Missing, project
from stepflow.plan.shared_root import KINDS, SharedRoot, all_of, any_of, is_typed, kinds_of_case
from stepflow.plan.subtype import Answer, Reason, is_subtype
from stepflow.plan.suggest import did_you_mean
from stepflow.plan.uses import Use
from stepflow.plan.variables import VariableInfo, declared
from stepflow.records import ComponentInfo, Json

FindComponent: TypeAlias = Callable[[str], ComponentInfo | None]
"""What is known of the component at a path; None: nothing."""

_SHOWN = 3  # reasons in a message
_NULL: Json = {"type": "null"}
_NOT_NULL: Json = {"type": [kind for kind in (*KINDS, "number") if kind not in ("null", "fraction")]}


class FlowTypes(msgspec.Struct, frozen=True):
    """The types of a flow. Each is a JSON Schema whose references lead through `root`; True: nothing is known."""

    root: SharedRoot
    inputs: tuple[Json, ...]  # what each step's input expression gives
    accepted: tuple[Json, ...]  # what each step's component takes
    outputs: tuple[Json, ...]  # what each step gives
    output: Json  # what the flow's output expression gives
    diagnostics: tuple[Diagnostic, ...]


def type_check(flow: Flow, components: FindComponent, *, strict: bool = False) -> tuple[Diagnostic, ...]:
    """Every place where a type does not fit; under `strict` also where that cannot be told.

    A variable that is not declared is reported here as well as by `check`, by the same diagnostic.
    """
    return flow_types(flow, components, strict=strict).diagnostics


def flow_types(flow: Flow, components: FindComponent, *, strict: bool = False) -> FlowTypes:
    """The types of a flow, worked out step by step from the front."""
    typing = _Typing(flow)
    inputs: list[Json] = []
    accepted: list[Json] = []
    for index, step in enumerate(flow.steps):
        info = components(step.component)
        at: Path = ("steps", index, "input")
        given = typing.expression(step.input, _Place(at, at, step.id))
        wanted = typing.adopted(f"accepted{index}", info.input_schema if info is not None else None)
        what = f'the input of step "{step.id}" does not fit component "{step.component}"'
        typing.compare(given, wanted, step.input, _Place(at, at, step.id), what, strict=strict)
        inputs.append(given)
        accepted.append(wanted)
        typing.add_step(index, step, info)
    place = _Place(("output",), ("output",), OUTPUT)
    output = typing.expression(flow.output, place)
    wanted = typing.face("output", flow.schemas.output)
    typing.compare(output, wanted, flow.output, place, "the flow's output does not fit its schema", strict=strict)
    return FlowTypes(
        typing.root, tuple(inputs), tuple(accepted), tuple(typing.outputs), output, tuple(typing.diagnostics)
    )


class _Place(msgspec.Struct, frozen=True):
    """Where an expression stands: as diagnostics write it, as the document has it, and in whose input."""

    path: Path
    at: Path
    owner: str

    def below(self, part: str | int, *keys: str | int) -> "_Place":
        return _Place((*self.path, part), (*self.at, *(keys or (part,))), self.owner)


class _Typing:
    """Gives expressions their types and keeps what is found wrong on the way."""

    def __init__(self, flow: Flow) -> None:
        self.root = SharedRoot()
        self.diagnostics: list[Diagnostic] = []
        self.outputs: list[Json] = []
        self._flow = flow
        self._steps: dict[str, Json] = {}
        self._input = self.face("input", flow.schemas.input)
        self._variables: dict[str, tuple[VariableInfo, Json]] = {
            info.name: (info, self.face(f"variable{index}", info.schema)) for index, info in enumerate(declared(flow))
        }

    def adopted(self, name: str, schema: Json) -> Json:
        return True if schema is None else self.root.adopt(name, schema)

    def face(self, name: str, schema: Json) -> Json:
        """A schema of the flow's own, which may refer to the flow's definitions."""
        return True if schema is None else self.root.adopt(name, schema_document(schema, self._flow.schemas.defs))

    def add_step(self, index: int, step: Step, info: ComponentInfo | None) -> None:
        """From here on the step may be referred to."""
        if step.id in self._flow.schemas.steps:
            output = self.face(f"step{index}", self._flow.schemas.steps[step.id])
        else:
            output = self.adopted(f"given{index}", info.output_schema if info is not None else None)
            if step.on_error is not None and step.on_error.action == "useDefault":
                output = any_of([output, {"const": step.on_error.default}])
        self.outputs.append(output)
        self._steps.setdefault(step.id, output)

    def expression(self, expression: Expression, place: _Place) -> Json:
        match expression:
            case Literal(value):
                return {"const": value}
            case StepRef(step, path):
                known = self._steps.get(step, True)
                return self._project(known, path, place, ("path",), f'step "{step}"', path, absorbs_null=True)
            case InputRef(path):
                return self._project(self._input, path, place, ("$input",), "the input", path)
            case VariableRef():
                return self._variable(expression, place)
            case If(condition, then, otherwise):
                self.expression(condition, place.below("condition", "$if"))
                chosen = self.expression(then, place.below("then"))
                other = _NULL if otherwise is None else self.expression(otherwise, place.below("else"))
                return any_of([chosen, other])
            case Coalesce(choices):
                each = [self.expression(c, place.below(i, "$coalesce", i)) for i, c in enumerate(choices)]
                return self._first_not_null(each)
            case ArrayOf(items):
                return _tuple([self.expression(item, place.below(i)) for i, item in enumerate(items)])
            case ObjectOf(fields):
                return _object({name: self.expression(field, place.below(name)) for name, field in fields})
            case _:
                assert_never(expression)

    def _variable(self, ref: VariableRef, place: _Place) -> Json:
        default = None
        if ref.default is not None:
            default = self.expression(ref.default, _Place(place.path, (*place.at, "default"), place.owner))
        name = ref.path[0] if ref.path else None
        if not isinstance(name, str) or self._flow.schemas.variables is None:
            return True
        if name not in self._variables:
            use = Use(ref, place.path, (*place.at, "$variable"), None)
            self.diagnostics.append(undefined_variable(use, ref, place.owner, self._variables))
            return True
        info, schema = self._variables[name]
        found = self._project(schema, ref.path[1:], place, ("$variable",), f'variable "{name}"', ref.path)
        is_sure = (info.required or info.has_default) and len(ref.path) == 1
        return found if default is None or is_sure else any_of([found, default])

    def _first_not_null(self, choices: Sequence[Json]) -> Json:
        """The type of the first value that is not null; null only where every choice is known to allow it."""
        split = [self._without_null(choice) for choice in choices]
        found = [schema for schema, _ in split]
        return any_of([*found, _NULL] if all(is_nullable for _, is_nullable in split) else found)

    def _without_null(self, schema: Json) -> tuple[Json, bool]:
        """The type with null taken out, and whether it was in."""
        cases = self.root.cases(schema)
        if cases is None:
            return True, False
        kinds = [kinds_of_case(case) if is_typed(case) else [] for case in cases]
        found = [
            all_of([*case, _NOT_NULL]) if "null" in of_case else all_of(list(case))
            for case, of_case in zip(cases, kinds, strict=True)
            if of_case != ["null"]
        ]
        return any_of(found), any("null" in of_case for of_case in kinds)

    def _project(
        self,
        schema: Json,
        path: Path,
        place: _Place,
        key: Path,
        what: str,
        written: Path,
        *,
        absorbs_null: bool = False,
    ) -> Json:
        found = project(schema, path, self.root, absorbs_null=absorbs_null)
        if not isinstance(found, Missing):
            return found
        named = f'property "{found.part}"' if isinstance(found.part, str) else f"item {found.part}"
        self.diagnostics.append(
            diagnostic(
                2101,
                f"{what} has no {named} at {format_path(written)}",
                place.path,
                place=(*place.at, *key),
                suggestion=did_you_mean(str(found.part), found.known),
                data={"step_id": place.owner, "path": format_path(written), "property": str(found.part)},
            )
        )
        return True

    def compare(
        self, given: Json, wanted: Json, expression: Expression, place: _Place, what: str, *, strict: bool
    ) -> None:
        """Report where a type does not fit; `what` begins the sentence."""
        answer = is_subtype(given, wanted, self.root)
        if answer.holds is False:
            texts = type_text(wanted, self.root), type_text(given, self.root)
            self.diagnostics += [_mismatch(reason, texts, expression, place, what) for reason in answer.reasons]
        elif answer.holds is None and strict:
            self.diagnostics.append(_indeterminate(answer, expression, place, what))


def _mismatch(reason: Reason, texts: tuple[str, str], expression: Expression, place: _Place, what: str) -> Diagnostic:
    detail = _detail(reason)
    below = _descend(expression, reason.path)
    data: dict[str, Json] = {"step_id": place.owner, "expected": texts[0], "actual": texts[1], "detail": detail}
    path = (*place.path, *below)
    return diagnostic(2100, f"{what}: {detail}", path, data=data, remedy=f"expected: {texts[0]}")


def _indeterminate(answer: Answer, expression: Expression, place: _Place, what: str) -> Diagnostic:
    details = [_detail(each) for each in answer.reasons]
    shown = "; ".join(details[:_SHOWN]) + (f" and {len(details) - _SHOWN} more" if len(details) > _SHOWN else "")
    message = f"it cannot be told whether {what.replace('does not fit', 'fits')}: {shown}"
    below = _descend(expression, answer.reasons[0].path) if len(answer.reasons) == 1 else ()
    data: dict[str, Json] = {"step_id": place.owner, "reason": "; ".join(details)}
    return diagnostic(1101, message, (*place.path, *below), data=data)


def _detail(reason: Reason) -> str:
    place = format_path(reason.path).replace(".*", "[*]")
    return f"{place}: {reason.text}" if reason.path else reason.text


def _descend(expression: Expression, path: Path) -> Path:
    """How far a path inside the value leads inside the document."""
    match expression, path:
        case ObjectOf(fields), (str() as name, *rest) if name in dict(fields):
            return (name, *_descend(dict(fields)[name], tuple(rest)))
        case ArrayOf(items), (int() as index, *rest) if index < len(items):
            return (index, *_descend(items[index], tuple(rest)))
        case Literal(_, quoted), _:
            return ("$literal", *path) if quoted else path
        case _:
            return ()


def _tuple(items: list[Json]) -> Json:
    count = len(items)
    sizes: dict[str, Json] = {"type": "array", "items": False, "minItems": count, "maxItems": count}
    return {**sizes, "prefixItems": items} if items else sizes


def _object(fields: dict[str, Json]) -> Json:
    names: list[Json] = list(fields)
    return {"type": "object", "properties": fields, "required": names, "additionalProperties": False}
