"""The `noop` component."""

from stepflow.plugins.builtin.component import DIALECT, Builtin
from stepflow.protocols import Host
from stepflow.records import Outcome, Succeeded, Task


async def perform(task: Task, host: Host) -> Outcome:
    return Succeeded(task.input)


NOOP = Builtin(
    name="noop",
    description="Gives its input back unchanged.",
    input=None,
    output_schema={"$schema": DIALECT},
    perform=perform,
)
