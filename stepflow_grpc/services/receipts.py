"""Which workers are owed the word that an answer of theirs is recorded."""

from typing import Protocol

from stepflow.execution.events import RunEnded, StepDefaulted, StepFailed, StepRetried, StepSucceeded
from stepflow.records import Json, RunId, Task, TaskId

_OUTCOMES = frozenset({StepSucceeded, StepFailed, StepDefaulted, StepRetried})


class Debtor(Protocol):
    """Who says it to the worker."""

    def recorded(self, task_id: TaskId) -> None:
        """The worker may forget its answer. Must not block."""
        ...


class Receipts:
    """Answers that were taken and are not durable yet. It watches the engine, which says when they are."""

    def __init__(self) -> None:
        self._owed: dict[RunId, dict[tuple[int, int], list[tuple[Debtor, TaskId]]]] = {}

    def owe(self, run_id: RunId, item: int, step: int, debtor: Debtor, task_id: TaskId) -> None:
        """An answer was taken as the step's outcome."""
        owed = self._owed.get(run_id)
        if owed is None:
            owed = self._owed[run_id] = {}
        place = (item, step)
        others = owed.get(place)
        if others is None:
            owed[place] = [(debtor, task_id)]
        else:
            others.append((debtor, task_id))

    def is_owed(self, run_id: RunId, item: int, step: int) -> bool:
        """Whether an outcome of this step is on its way into the store."""
        return (item, step) in self._owed.get(run_id, ())

    def runs(self) -> list[RunId]:
        """The runs that answers are on the way to."""
        return list(self._owed)

    def forgive(self, run_id: RunId) -> list[tuple[Debtor, TaskId]]:
        """Nothing of this run will be recorded here any more; what was owed."""
        return [each for owed in self._owed.pop(run_id, {}).values() for each in owed]

    def on_event(self, run_id: RunId, event: object) -> None:
        owed = self._owed.get(run_id)
        if owed is None:
            return
        kind = type(event)
        if kind in _OUTCOMES:
            for debtor, task_id in owed.pop((event.item, event.step), ()):  # type: ignore[attr-defined]
                debtor.recorded(task_id)
            if not owed:
                del self._owed[run_id]
        elif kind is RunEnded:
            for debtor, task_id in self.forgive(run_id):  # nobody will ever want them
                debtor.recorded(task_id)

    def on_progress(self, task: Task, progress: Json) -> None:
        pass
