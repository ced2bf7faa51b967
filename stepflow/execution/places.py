"""Which item and step the id of a task stands for."""

from stepflow.execution.state import RunState
from stepflow.plan.model import PENDING
from stepflow.records import RunId, TaskId, task_id

KEPT_PLACES = 1_000
"""Items that have ended and whose task ids are still known, at most, beside as many as are open."""


class Places:
    """The places of one run's tasks, made only once somebody asks."""

    def __init__(self, run_id: RunId, steps: int, state: RunState) -> None:
        self._run_id = run_id
        self._steps = steps
        self._state = state
        self._known: dict[int, None] = {}  # items whose tasks are among the places
        self._places: dict[TaskId, tuple[int, int]] = {}

    def of(self, wanted: TaskId) -> tuple[int, int] | None:
        """Item and step of a task that has begun and not finished; None: it has finished, or is none of this run."""
        items = self._state.items
        if len(self._known) > 2 * len(items) + KEPT_PLACES:
            self._known, self._places = {}, {}
        for index in [index for index in items if index not in self._known]:
            self._known[index] = None
            for step in range(self._steps):
                self._places[task_id(self._run_id, index, step)] = index, step
        place = self._places.get(wanted)
        item = None if place is None else items.get(place[0])
        if place is None or item is None or not item.attempts[place[1]] or item.outputs[place[1]] is not PENDING:
            return None
        return place
