"""Which workers are owed the word that an answer of theirs is recorded."""

from collections.abc import Sequence
from typing import Protocol

from stepflow.execution.events import RunEnded, StepDefaulted, StepFailed, StepRetried, StepSucceeded
from stepflow.records import Json, RunId, Task, TaskId
from stepflow_grpc.frames import Reply

_OUTCOMES = frozenset({StepSucceeded, StepFailed, StepDefaulted, StepRetried})


class Debtor(Protocol):
    """Who says it to the worker."""

    def recorded(self, task_id: TaskId, attempt: int) -> None:
        """The worker may forget its answer. Must not block."""
        ...


class Receipts:
    """Answers that were taken and are not durable yet. It watches the engine, which says when they are."""

    def __init__(self) -> None:
        self._owed: dict[RunId, dict[tuple[int, int], list[tuple[Debtor, Reply]]]] = {}

    def owe(self, reply: Reply, debtor: Debtor) -> None:
        """An answer was taken as its step's outcome."""
        owed = self._owed.get(reply.run_id)
        if owed is None:
            owed = self._owed[reply.run_id] = {}
        place = (reply.item, reply.step)
        others = owed.get(place)
        if others is None:
            owed[place] = [(debtor, reply)]
        else:
            others.append((debtor, reply))

    def is_owed(self, reply: Reply) -> bool:
        """Whether an outcome of the same step is on its way into the store."""
        return (reply.item, reply.step) in self._owed.get(reply.run_id, ())

    def runs(self) -> list[RunId]:
        """The runs that answers are on the way to."""
        return list(self._owed)

    def kept(self, run_id: RunId, task_id: TaskId) -> None:
        """The answer to a task of another engine's run is stored for it."""
        owed = self._owed.get(run_id, {})
        place = next((place for place, debts in owed.items() if debts[0][1].id == task_id), None)
        if place is None:
            return
        for debtor, reply in owed.pop(place):
            debtor.recorded(reply.id, reply.attempt)
        if not owed:
            del self._owed[run_id]

    def forgive(self, run_id: RunId) -> list[tuple[Debtor, Reply]]:
        """Nothing of this run will be recorded here any more; what was owed."""
        return [each for owed in self._owed.pop(run_id, {}).values() for each in owed]

    def on_events(self, run_id: RunId, events: Sequence[object]) -> None:
        owed = self._owed.get(run_id)
        if owed is None:
            return
        paid: list[tuple[Debtor, Reply]] = []
        for event in events:
            kind = type(event)
            if kind in _OUTCOMES:
                paid += owed.pop((event.item, event.step), ())  # type: ignore[attr-defined]
            elif kind is RunEnded:
                paid += self.forgive(run_id)  # nobody will ever want them
        if not owed:
            self._owed.pop(run_id, None)
        for debtor, reply in paid:
            debtor.recorded(reply.id, reply.attempt)

    def on_event(self, run_id: RunId, event: object) -> None:
        self.on_events(run_id, (event,))

    def on_progress(self, task: Task, progress: Json) -> None:
        pass
