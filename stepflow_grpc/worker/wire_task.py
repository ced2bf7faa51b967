"""A task as `stepflow.v1` tells of it."""

from stepflow.records import Task, TaskId


class WireTask(Task, frozen=True, kw_only=True, gc=False):
    """A task whose place in its run is not told: its item and step are unknown, and its id is the orchestrator's."""

    wire_id: TaskId

    @property
    def id(self) -> TaskId:
        return self.wire_id
