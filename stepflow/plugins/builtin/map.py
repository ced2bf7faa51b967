"""The `map` component: a flow, run on each element of a list."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stepflow.plugins.builtin.component import DIALECT, Builtin, read_input
from stepflow.plugins.builtin.subflow import (
    FLOW_RESULT_SCHEMA,
    FlowDocument,
    FlowId,
    Overrides,
    Variables,
    chosen_flow,
    flow_result,
)
from stepflow.protocols import Host
from stepflow.records import Json, Outcome, Succeeded, Task


class MapInput(msgspec.Struct, frozen=True):
    items: Annotated[list[Json], Meta(description="One input of the inner flow each.")]
    workflow: FlowDocument | UnsetType = UNSET
    flow_id: FlowId | None = None
    max_concurrency: Annotated[int, Meta(ge=1, description="How many tasks of the sub-run at a time.")] | None = None
    variables: Variables | None = None
    overrides: Overrides | None = None


async def perform(task: Task, host: Host) -> Outcome:
    given = read_input(MapInput, task.input, integers=("max_concurrency",))
    flow = chosen_flow("workflow", given.workflow, given.flow_id)
    sub_run = await host.run_flow(
        task,
        flow,
        given.items,
        key="map",
        variables=given.variables,
        overrides=given.overrides,
        max_concurrency=given.max_concurrency,
    )
    successful = sum(isinstance(outcome, Succeeded) for outcome in sub_run.results)
    results: list[Json] = [flow_result(outcome) for outcome in sub_run.results]
    return Succeeded({"results": results, "successful": successful, "failed": len(results) - successful})


MAP = Builtin(
    name="map",
    description="Runs a flow on each element of a list, as one sub-run. A failed element is data in `results`.",
    input=MapInput,
    output_schema={
        "$schema": DIALECT,
        "type": "object",
        "properties": {
            "results": {"type": "array", "items": FLOW_RESULT_SCHEMA},
            "successful": {"type": "integer", "minimum": 0},
            "failed": {"type": "integer", "minimum": 0},
        },
        "required": ["results", "successful", "failed"],
    },
    perform=perform,
)
