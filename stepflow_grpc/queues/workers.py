"""Which workers are connected or have a task, and when they were heard of."""

import logging
from collections.abc import Sequence

from stepflow.records import TaskId
from stepflow_grpc.queues.entry import Entry
from stepflow_grpc.queues.queue import QueueDeadlines
from stepflow_grpc.queues.records import WorkerKind, WorkerStatistics
from stepflow_grpc.queues.statistics import worker_statistics
from stepflow_grpc.queues.stream import Worker

logger = logging.getLogger("stepflow.queues")


class Workers:
    """By their ids. One that gave none when it connected is known once it claims something."""

    def __init__(self, deadlines: QueueDeadlines) -> None:
        self._deadlines = deadlines
        self._known: dict[str, Worker] = {}

    def get(self, id: str) -> Worker | None:
        return self._known.get(id)

    def all(self) -> Sequence[Worker]:
        """In the order they came."""
        return tuple(self._known.values())

    def meet(self, id: str, kind: WorkerKind) -> Worker:
        """The worker of this id, which is known from now on."""
        if not id:
            return Worker(id, kind, self._deadlines.now())
        worker = self._known.get(id)
        if worker is None:
            worker = self._known[id] = Worker(id, kind, self._deadlines.now())
        if kind is WorkerKind.OURS:
            worker.kind = kind
        return worker

    def forget_if_gone(self, worker: Worker) -> None:
        if not worker.streams and not worker.claimed and self._known.get(worker.id) is worker:
            del self._known[worker.id]

    def spoke_of(
        self, task_id: TaskId, entry: Entry | None, worker_id: str, attempt: int | None, now: float
    ) -> Worker | None:
        """A worker spoke of a task, so it has read what it was sent of it. Gives the worker if it can be sent more.

        Args:
            entry: the attempt that is waited for; None: nobody waits.
        """
        worker = self._known.get(worker_id)
        if worker is None:
            worker = None if entry is None else self._named(entry, worker_id)
            if worker is None:
                return None
        worker.heard_at = now
        freed = None
        for stream in worker.streams:
            if stream.heard(task_id, attempt, now):
                freed = worker
        return freed

    def _named(self, entry: Entry, id: str) -> Worker | None:
        """A worker that gave no name when it connected gives one when it claims."""
        worker = next((stream.worker for stream in entry.out if not stream.worker.id), None)
        if worker is not None:
            worker.id = id
            self._known[id] = worker
            entry.names[id] = None
        return worker

    def statistics(self) -> Sequence[WorkerStatistics]:
        """Of each, in the order they came."""
        now = self._deadlines.now()
        return [worker_statistics(worker, now) for worker in self._known.values()]


def note_held_up(worker: Worker, held_up_s: float, stack: str | None) -> None:
    """Warn once of each time that a worker's event loop has no turn, as soon as it is known what holds it."""
    was_warned = worker.stack is not None
    worker.held_up_s = held_up_s
    worker.stack = (stack or worker.stack) if held_up_s else None
    if worker.stack is not None and not was_warned:
        logger.warning(
            "worker %r lives, but its event loop has had no turn for %.0f s; it keeps %s\n%s",
            worker.id,
            held_up_s,
            _tasks_of(worker),
            worker.stack,
        )


def _tasks_of(worker: Worker) -> str:
    """The first few by the names that a flow gives them."""
    tasks = [entry.queued.task for entry in worker.claimed.values()]
    named = [f"step {task.step_id!r} of run {task.run_id}" for task in tasks[:3]]
    more = f"{len(tasks) - len(named)} more" if len(tasks) > len(named) else ""
    return ", ".join(named + [more] * bool(more)) or "its tasks"
