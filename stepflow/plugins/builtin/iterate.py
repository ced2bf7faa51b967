"""The `iterate` component: a flow, run again and again until it gives a result."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stepflow.errors import InvalidInputError
from stepflow.plugins.builtin.component import DIALECT, Builtin, read_input
from stepflow.plugins.builtin.subflow import (
    FlowDocument,
    FlowId,
    Overrides,
    Variables,
    chosen_flow,
    only_outcome,
)
from stepflow.protocols import Host
from stepflow.records import TRANSPORT_CODES, Failed, Json, Outcome, Succeeded, Task


class IterateInput(msgspec.Struct, frozen=True):
    initial_input: Annotated[Json, Meta(description="Input of the first turn.")]
    flow: FlowDocument | UnsetType = UNSET
    flow_id: FlowId | None = None
    max_iterations: Annotated[int, Meta(ge=0, description="Turns after which to stop.")] = 1000
    variables: Variables | None = None
    overrides: Overrides | None = None


async def perform(task: Task, host: Host) -> Outcome:
    """One sub-run a turn, its key the turn's number, so that a repeated attempt goes on at the turn that failed.

    A failure of transport class is inherited: the inner step has used up its retries, and no more are made here.
    """
    given = read_input(IterateInput, task.input, integers=("max_iterations",))
    flow = chosen_flow("flow", given.flow, given.flow_id)
    pending = given.initial_input
    for turn in range(given.max_iterations):
        sub_run = await host.run_flow(
            task, flow, [pending], key=str(turn), variables=given.variables, overrides=given.overrides
        )
        outcome = only_outcome(sub_run)
        if isinstance(outcome, Failed):
            may_retry = outcome.may_retry and outcome.code not in TRANSPORT_CODES
            return msgspec.structs.replace(outcome, may_retry=may_retry)
        output = outcome.output
        if isinstance(output, dict) and "result" in output:
            return Succeeded({"result": output["result"], "iterations": turn + 1, "terminated": False})
        if not isinstance(output, dict) or "next" not in output:
            raise InvalidInputError(
                f"turn {turn + 1} gave neither `result` nor `next`: the flow's output has to be an object with one"
            )
        pending = output["next"]
        host.report(task, {"iterations": turn + 1})
    return Succeeded({"result": pending, "iterations": given.max_iterations, "terminated": True})


ITERATE = Builtin(
    name="iterate",
    description="Runs a flow until its output has a `result`; an output with `next` is the input of another turn.",
    input=IterateInput,
    output_schema={
        "$schema": DIALECT,
        "type": "object",
        "properties": {
            "result": {"description": "The flow's result; the pending input when the turns were used up."},
            "iterations": {"type": "integer", "minimum": 0},
            "terminated": {"type": "boolean", "description": "The turns were used up before a result came."},
        },
        "required": ["result", "iterations", "terminated"],
    },
    perform=perform,
)
