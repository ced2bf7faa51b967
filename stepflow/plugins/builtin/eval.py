"""The `eval` component: a stored flow, run on one input."""

import msgspec

from stepflow.plugins.builtin.component import DIALECT, Builtin, read_input
from stepflow.plugins.builtin.subflow import (
    FLOW_RESULT_SCHEMA,
    FlowId,
    Overrides,
    Variables,
    flow_result,
    only_outcome,
)
from stepflow.protocols import Host
from stepflow.records import Json, Outcome, Succeeded, Task


class EvalInput(msgspec.Struct, frozen=True):
    flow_id: FlowId
    input: Json
    variables: Variables | None = None
    overrides: Overrides | None = None


async def perform(task: Task, host: Host) -> Outcome:
    given = read_input(EvalInput, task.input)
    sub_run = await host.run_flow(
        task,
        given.flow_id.lower(),
        [given.input],
        key="eval",
        variables=given.variables,
        overrides=given.overrides,
    )
    return Succeeded({"result": flow_result(only_outcome(sub_run)), "run_id": sub_run.id})


EVAL = Builtin(
    name="eval",
    description="Runs a stored flow on one input, as a sub-run. A failure of the flow is data in `result`.",
    input=EvalInput,
    output_schema={
        "$schema": DIALECT,
        "type": "object",
        "properties": {
            "result": FLOW_RESULT_SCHEMA,
            "run_id": {"type": "string", "format": "uuid", "description": "The id of the sub-run."},
        },
        "required": ["result", "run_id"],
    },
    perform=perform,
)
