"""The `sleep` component. It only waits, so it holds no slot."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stepflow.plugins.builtin.component import DIALECT, Builtin, read_input
from stepflow.protocols import Host
from stepflow.records import Json, Outcome, Succeeded, Task


class SleepInput(msgspec.Struct, frozen=True):
    duration_ms: Annotated[int, Meta(ge=0, description="How long to wait, in milliseconds.")]
    passthrough: Annotated[Json, Meta(description="Any value, given back in the output.")] | UnsetType = UNSET


async def perform(task: Task, host: Host) -> Outcome:
    given = read_input(SleepInput, task.input, integers=("duration_ms",))
    async with host.waiting(task, "sleep"):
        await host.clock.sleep(given.duration_ms / 1000)
    output: dict[str, Json] = {"duration_ms": given.duration_ms}
    if given.passthrough is not UNSET:
        output["passthrough"] = given.passthrough
    return Succeeded(output)


SLEEP = Builtin(
    name="sleep",
    description="Waits, holding no slot, then gives the duration and the passthrough value back.",
    input=SleepInput,
    output_schema={
        "$schema": DIALECT,
        "type": "object",
        "properties": {"duration_ms": {"type": "integer", "minimum": 0}, "passthrough": {}},
        "required": ["duration_ms"],
    },
    perform=perform,
)
