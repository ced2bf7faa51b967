"""What a plugin's tasks may take."""

from collections.abc import Callable

import msgspec

from stepflow.records import Json, Task
from stepflow_grpc.queues.records import QueuedTask


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a plugin's tasks."""

    queue_timeout_s: float | None = None
    execution_timeout_s: float | None = None

    def queued(
        self,
        task: Task,
        queue: str,
        *,
        is_own: bool = True,
        report: Callable[[Task, Json], None] | None = None,
        note_queued: Callable[[Task, float], None] | None = None,
    ) -> QueuedTask:
        return QueuedTask(
            id=task.id,
            task=task,
            queue=queue,
            queue_timeout_s=self.queue_timeout_s if is_own else None,
            execution_timeout_s=self.execution_timeout_s,
            report=report,
            note_queued=note_queued,
            is_own=is_own,
        )
