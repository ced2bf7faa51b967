"""Queues whose every slot is held by a task that waits for a run behind it in the same queue.

Workers of ours give the slot of a component back while it waits for a run of its own. Others keep it, and nothing ends
where all of them wait: then the steps that stand in line say so, and those that hold the slots.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from stepflow.engine import Engine
from stepflow.protocols import Clock
from stepflow.records import RunId
from stepflow_grpc.queues.entry import Entry
from stepflow_grpc.queues.queue import Queue
from stepflow_grpc.queues.task_queues import TaskQueues

LOOK_S = 2.0
"""How often the queues are looked at while anybody waits for a run."""

PATIENCE_S = 5.0
"""How long the oldest task of a queue has to have stood in line."""


class Deadlocks:
    """Knows which runs' tasks wait for which runs, and looks whether their queues can move."""

    def __init__(self, engine: Engine, queues: TaskQueues, clock: Clock) -> None:
        self._engine = engine
        self._queues = queues
        self._clock = clock
        self._waits: Counter[tuple[RunId, RunId]] = Counter()  # tasks of a root run that wait for another run
        self._told: dict[Entry, None] = {}

    @contextmanager
    def waiting(self, root_id: RunId, run_id: RunId) -> Iterator[None]:
        """While inside, a task of a root run waits for a run that it submitted."""
        self._waits[root_id, run_id] += 1
        try:
            yield
        finally:
            self._waits[root_id, run_id] -= 1
            if not self._waits[root_id, run_id]:
                del self._waits[root_id, run_id]

    async def run(self) -> None:
        """Look, until it is cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            if self._waits:
                self.look()
            else:
                self._told.clear()

    def look(self) -> None:
        """Let the steps say so that stand in line of a queue that can't move, and those that hold its slots."""
        stuck = {entry: None for queue in self._queues.all() if self._is_stuck(queue) for entry in _tasks(queue)}
        for entry in stuck:
            if entry not in self._told:
                self._engine.note_waiting(entry.queued.task, _reason(entry.queue))
        for entry in self._told:
            if entry not in stuck and not entry.is_over:
                self._engine.note_waiting(entry.queued.task, "")
        self._told = stuck

    def _is_stuck(self, queue: Queue) -> bool:
        held = Counter(entry.run for worker in queue.workers for entry in worker.claimed.values())
        oldest = next(iter(queue.unclaimed), None)
        if not held or oldest is None or self._queues.age_s(oldest) < PATIENCE_S:
            return False
        waiting: Counter[RunId] = Counter()
        for (root_id, _), count in self._waits.items():
            waiting[root_id] += count
        wanted = {run_id for _, run_id in self._waits}
        is_wanted = any(entry.run in wanted for entry in queue.unclaimed)
        return is_wanted and all(waiting[root_id] >= count for root_id, count in held.items())


def _tasks(queue: Queue) -> Iterator[Entry]:
    yield from queue.unclaimed
    for worker in queue.workers:
        yield from worker.claimed.values()


def _reason(queue: Queue) -> str:
    slots = sum(len(worker.claimed) for worker in queue.workers)
    if slots == 1:
        return f"the only slot of queue {queue.name!r} is held by a task that waits for a run behind it: a deadlock"
    return (
        f"all {slots} slots of queue {queue.name!r} are held by tasks that wait for runs behind them in it: a deadlock"
    )
