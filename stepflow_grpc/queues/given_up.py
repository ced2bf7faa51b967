"""Attempts that were given up, until the next one begins: an answer may come meanwhile."""

import msgspec

from stepflow.records import Outcome, Succeeded, TaskId

KEPT_S = 120.0
"""How long an attempt that was given up is remembered: its answer may come before the next attempt begins."""

MOST_KEPT = 10_000


class _Kept(msgspec.Struct):
    holder: str | None
    until: float
    outcome: Outcome | None = None


class GivenUp:
    """Between two attempts: who had the first, and the success that came after all."""

    def __init__(self) -> None:
        self._kept: dict[TaskId, _Kept] = {}

    def add(self, task_id: TaskId, holder: str | None, now: float) -> None:
        self._kept[task_id] = _Kept(holder, now + KEPT_S)
        oldest = next(iter(self._kept))
        while len(self._kept) > MOST_KEPT or self._kept[oldest].until <= now:
            del self._kept[oldest]
            oldest = next(iter(self._kept))

    def take(self, task_id: TaskId) -> tuple[str | None, Outcome | None]:
        """Who had it, and what came of it after all; the next attempt begins, and it is forgotten."""
        kept = self._kept.pop(task_id, None) if self._kept else None
        return (None, None) if kept is None else (kept.holder, kept.outcome)

    def was_with(self, task_id: TaskId, worker_id: str) -> bool:
        kept = self._kept.get(task_id)
        return kept is not None and kept.holder == worker_id

    def keep(self, task_id: TaskId, outcome: Outcome) -> bool:
        """Take a success for the next attempt. False: none will begin, as far as is known, or it is a failure."""
        kept = self._kept.get(task_id)
        if kept is None or not isinstance(outcome, Succeeded):
            return False
        kept.outcome = kept.outcome or outcome
        return True
