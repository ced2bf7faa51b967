"""What is settled before a run starts: the plan, the values of the variables, the policy of each step. Pure."""

import logging
import marshal
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from stepflow.errors import InputInvalidError, Problem
from stepflow.execution.verdict import Policy, RetrySettings, policy_of
from stepflow.flow.model import Flow
from stepflow.flow.path import format_path
from stepflow.flow.read import read_flow
from stepflow.flow.schema import SchemaError, SchemaValidator, SecretMarks, schema_document
from stepflow.plan.compile import compile_flow
from stepflow.plan.model import Plan
from stepflow.plan.overrides import apply_overrides
from stepflow.plan.variables import Redactor, Variables, declared, resolve_variables
from stepflow.records import Json

logger = logging.getLogger("stepflow.run")

KEPT_PLANS = 256
SHOWN_PROBLEMS = 20
"""How many of a batch's bad inputs are named; the rest are counted."""

CHUNK = 1_000
"""Inputs in one entry of the journal."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    flow: Flow  # as it was given: the one that is stored
    plan: Plan  # of the flow as overridden
    variables: dict[str, Json]  # defaults included
    given: dict[str, Json]
    overrides: Json
    policies: tuple[Policy, ...]
    warnings: tuple[Problem, ...]
    redactor: Redactor | None


class Plans:
    """Flows and plans that were used last: a file is read again when it changes, a document when it differs."""

    def __init__(self) -> None:
        self._plans: OrderedDict[int, tuple[Flow, Plan]] = OrderedDict()
        self._flows: OrderedDict[object, Flow] = OrderedDict()

    def flow(self, source: str | os.PathLike[str] | Mapping[str, Json] | Flow) -> Flow:
        """Raises: FlowInvalidError."""
        if isinstance(source, Flow):
            return source
        key = _content_key(source)
        flow = self._flows.get(key) if key is not None else None
        if flow is None:
            flow = read_flow(source)
            if key is not None:
                _keep(self._flows, key, flow)
        return flow

    def plan(self, flow: Flow) -> Plan:
        """Raises: FlowInvalidError."""
        kept = self._plans.get(id(flow))
        if kept is not None and kept[0] is flow:
            return kept[1]
        plan = compile_flow(flow)
        _keep(self._plans, id(flow), (flow, plan))
        return plan


K = TypeVar("K")
V = TypeVar("V")


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    if len(kept) > KEPT_PLANS:
        kept.popitem(last=False)


def _content_key(source: str | os.PathLike[str] | Mapping[str, Json]) -> object:
    """What stands for the content of a source; None where that can't be told."""
    try:
        if isinstance(source, str | os.PathLike):
            stat = os.stat(source)
            return (os.path.abspath(source), stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return marshal.dumps(dict(source), 2)  # unlike JSON text, it tells values of other types apart
    except (OSError, ValueError):
        return None


def prepare(
    plans: Plans,
    flow: Flow,
    *,
    variables: Mapping[str, Json],
    overrides: Json,
    settings: RetrySettings,
    validation: str,
) -> Prepared:
    """Settle everything that a submission can be refused for, but its inputs.

    Raises:
        FlowInvalidError: the flow, as overridden, can't be run.
        InputInvalidError: overrides or variables don't fit it.
    """
    plan = plans.plan(flow)
    patched = apply_overrides(flow, overrides)
    if patched is not flow:
        plan = compile_flow(patched, id=plan.flow_id)
    resolved: Variables = resolve_variables(plan.flow, variables, validation=validation)
    return Prepared(
        flow=flow,
        plan=plan,
        variables=resolved.values,
        given=dict(variables),
        overrides=overrides or None,
        policies=tuple(policy_of(step, resolved.values, settings) for step in plan.steps),
        warnings=resolved.problems,
        redactor=_redactor(plan.flow, resolved.values),
    )


def unprepared(plans: Plans, flow: Flow) -> Prepared:
    """For a run of which nothing begins here, because its secrets are missing: the flow's plan, and no values."""
    return Prepared(
        flow=flow,
        plan=plans.plan(flow),
        variables={},
        given={},
        overrides=None,
        policies=(),
        warnings=(),
        redactor=None,
    )


def _redactor(flow: Flow, variables: Mapping[str, Json]) -> Redactor | None:
    schemas = (flow.schemas.variables, flow.schemas.input)
    if not any(SecretMarks(schema_document(schema, flow.schemas.defs)).any for schema in schemas):
        return None
    return Redactor(flow, variables)


def input_checker(flow: Flow, validation: str) -> SchemaValidator | None:
    """The validator of the declared input schema; None where any input will do.

    Raises:
        InputInvalidError: under `strict`, the schema itself can't be used.
    """
    schema = flow.schemas.input
    if validation == "off" or schema is None or schema is True or schema == {}:
        return None
    try:
        return SchemaValidator(schema, flow.schemas.defs)
    except SchemaError as error:
        message = f"the flow's input schema can't be used: {error}"
        if validation == "strict":
            raise InputInvalidError([Problem(message=message)]) from None
        logger.warning("%s", message)
        return None


def output_checker(flow: Flow, validation: str) -> Callable[[Json], str | None] | None:
    """A function that says what is wrong with an output; None where there is nothing to hold it against."""
    schema = flow.schemas.output
    if validation == "off" or schema is None or schema is True or schema == {}:
        return None
    try:
        validator = SchemaValidator(schema, flow.schemas.defs)
    except SchemaError:
        return None  # `validate` says so; a run is not refused for it

    def check(output: Json) -> str | None:
        if validator.accepts(output):
            return None
        return "; ".join(f"{format_path(each.path)}: {each.message}" for each in validator.violations(output)[:3])

    return check


def input_problem(index: int, input: Json, checker: SchemaValidator) -> Problem | None:
    """What is wrong with one input; the first thing, with item, path and rule."""
    if checker.accepts(input):
        return None
    violation = checker.violations(input)[0]
    return Problem(
        message=f"item {index}: {violation.message} (rule {violation.rule})", path=format_path(violation.path)
    )


def refusal(problem: Problem) -> str:
    """What `input_problem` found, as the message of a failed item or of a warning."""
    return problem.message if problem.path == "$" else f"{problem.message} ({problem.path})"


def input_problems(inputs: Sequence[Json], checker: SchemaValidator) -> tuple[Problem, ...]:
    """What is wrong with the inputs of a batch; after the first few only how many more there are."""
    found = [
        problem for index, input in enumerate(inputs) if (problem := input_problem(index, input, checker)) is not None
    ]
    more = len(found) - SHOWN_PROBLEMS
    rest = [Problem(message=f"and {more} more items do not fit")] if more > 0 else []
    return (*found[:SHOWN_PROBLEMS], *rest)


def chunks(inputs: Sequence[Json]) -> Iterator[tuple[int, list[Json]]]:
    for first in range(0, len(inputs), CHUNK):
        yield first, list(inputs[first : first + CHUNK])


def passed_down(flow: Flow, given: Mapping[str, Json], parent: Mapping[str, Json]) -> dict[str, Json]:
    """The variables of a sub-run: its parent's, where it was not given others.

    A flow whose schema of variables allows no more than it declares gets only those.
    """
    schema = flow.schemas.variables
    is_closed = isinstance(schema, dict) and schema.get("additionalProperties") is False
    names = {info.name for info in declared(flow)} if is_closed else parent.keys()
    return {**{name: value for name, value in parent.items() if name in names}, **given}
