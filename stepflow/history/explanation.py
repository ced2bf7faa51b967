"""Why a run does not move: blocking facts, the most important first, and what would unblock it."""

from enum import StrEnum

import msgspec

from stepflow.history.words import ago, clock_time
from stepflow.records import Failed, RunId, RunStatus


class BlockerKind(StrEnum):
    """What kind of fact keeps a run from going on, the most important first."""

    PAUSED = "paused"
    STORE = "store"  # it does not answer
    UNOWNED = "unowned"  # its engine is gone, or about to be counted as gone
    WAITING = "waiting"  # steps wait for something outside the engine
    RETRYING = "retrying"
    SLOTS = "slots"  # as many steps are under way as may be
    INPUTS = "inputs"  # they are still streaming in
    RUNNING = "running"  # a component has not answered yet
    SUB_RUN = "subRun"
    QUIET = "quiet"  # nothing in the store says why


class Blocker(msgspec.Struct, frozen=True, kw_only=True):
    """One fact that keeps a run, or one of its sub-runs, from going on. Times are seconds since the epoch."""

    kind: BlockerKind
    message: str
    run_id: RunId
    remedy: str | None = None  # what would unblock it; None: only time
    since: float | None = None
    until: float | None = None  # when it will be over by itself
    item: int | None = None  # the oldest that it concerns
    step: str | None = None
    count: int = 1  # how many steps it concerns

    def text(self, now: float) -> str:
        since = f", since {clock_time(self.since)} ({ago(now - self.since)})" if self.since is not None else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.message}{since}{remedy}"


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands, and what keeps it from going on. A run that has ended has no blockers."""

    run_id: RunId
    status: RunStatus
    now: float  # when it was asked
    summary: str  # how far it is, in one line
    blockers: tuple[Blocker, ...] = ()
    error: Failed | None = None  # why the whole run ended before its items did
    last_at: float | None = None  # of the newest event

    def __str__(self) -> str:
        return "\n".join([f"run {self.run_id}: {self.summary}", *self.lines()])

    def lines(self) -> list[str]:
        """A line for each blocker, those of sub-runs set in and named."""
        return [
            f"  {blocker.text(self.now)}"
            if blocker.run_id == self.run_id
            else f"    sub-run {blocker.run_id}: {blocker.text(self.now)}"
            for blocker in self.blockers
        ]
