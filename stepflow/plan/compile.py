"""From a flow to a plan."""

from collections.abc import Sequence

from stepflow.errors import FlowInvalidError
from stepflow.flow.identity import flow_id
from stepflow.flow.model import Flow, OnError
from stepflow.plan.checks import check, located
from stepflow.plan.evaluate import plan_expression
from stepflow.plan.model import NOT_NEEDED, Plan, PlannedExpression, PlannedStep, StaticNeeds
from stepflow.records import BlobId


def compile_flow(flow: Flow, *, id: BlobId | None = None) -> Plan:
    """The plan of a flow.

    Args:
        id: the flow's id, where the plan is of a patched copy that keeps it.

    Raises:
        FlowInvalidError: a diagnostic of fatal level; every one of the document's is named.
    """
    diagnostics = check(flow)
    if any(diagnostic.level == "fatal" for diagnostic in diagnostics):
        raise FlowInvalidError(located([d for d in diagnostics if d.level != "warning"], flow))
    return build_plan(flow, id=id)


def build_plan(flow: Flow, *, id: BlobId | None = None) -> Plan:
    """The plan of a flow that is known to be sound."""
    indices = {step.id: index for index, step in enumerate(flow.steps)}
    steps = tuple(
        PlannedStep(
            index=index,
            id=step.id,
            component=step.component,
            input=plan_expression(step.input, indices),
            must_execute=bool(step.must_execute),
            on_error=step.on_error or OnError(),
            timeout=step.timeout,
        )
        for index, step in enumerate(flow.steps)
    )
    output = plan_expression(flow.output, indices)
    must_execute = tuple(step.index for step in steps if step.must_execute)
    return Plan(
        flow=flow,
        flow_id=id or flow_id(flow),
        steps=steps,
        output=output,
        must_execute=must_execute,
        static=_static_needs(steps, output, must_execute),
    )


def _static_needs(
    steps: Sequence[PlannedStep], output: PlannedExpression, must_execute: Sequence[int]
) -> StaticNeeds | None:
    needed = _reachable(steps, output, must_execute)
    if not output.is_static or not all(steps[index].input.is_static for index in needed):
        return None
    waiting: list[list[int]] = [[] for _ in steps]
    unmet = [NOT_NEEDED] * (len(steps) + 1)
    for index in needed:
        unmet[index] = len(steps[index].input.references)
        for reference in steps[index].input.references:
            waiting[reference].append(index)
    unmet[len(steps)] = len(output.references)
    for reference in output.references:
        waiting[reference].append(len(steps))
    return StaticNeeds(
        unmet=tuple(unmet),
        dependents=tuple(tuple(waiters) for waiters in waiting),
        ready=tuple(index for index in needed if not unmet[index]),
        open=len(needed),
    )


def _reachable(steps: Sequence[PlannedStep], output: PlannedExpression, must_execute: Sequence[int]) -> list[int]:
    """Every step that some expression on the way to the output may need, in order."""
    found: dict[int, None] = {}
    todo = [*output.references, *must_execute]
    while todo:
        index = todo.pop()
        if index not in found:
            found[index] = None
            todo.extend(steps[index].input.references)
    return sorted(found)
