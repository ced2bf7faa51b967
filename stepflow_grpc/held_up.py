"""Workers that live and whose event loop has no turn: the steps that are with them say so."""

from stepflow.engine import Engine
from stepflow_grpc.queues.entry import Entry
from stepflow_grpc.queues.task_queues import TaskQueues

LONGEST_STACK = 4_000
"""Characters of a stack that a step's events show."""


class HeldUpWorkers:
    """Has each step say once what holds its worker up, and once that nothing does any more."""

    def __init__(self, engine: Engine, queues: TaskQueues) -> None:
        self._engine = engine
        self._queues = queues
        self._told: dict[str, tuple[Entry, ...]] = {}

    def look(self, worker_id: str) -> None:
        """A worker has been heard of."""
        worker = self._queues.worker(worker_id)
        if worker is None:
            self._told.pop(worker_id, None)
        elif worker.held_up_s and worker.stack is not None and worker_id not in self._told:
            self._told = {id: entries for id, entries in self._told.items() if self._queues.worker(id) is not None}
            self._told[worker_id] = tuple(worker.claimed.values())
            for entry in self._told[worker_id]:
                self._engine.note_waiting(entry.queued.task, _reason(worker_id, worker.stack))
        elif not worker.held_up_s:
            for entry in self._told.pop(worker_id, ()):
                if not entry.is_over:
                    self._engine.note_waiting(entry.queued.task, "")


def _reason(worker_id: str, stack: str) -> str:
    return f"the event loop of its worker {worker_id!r} has had no turn\n{stack[:LONGEST_STACK]}"
