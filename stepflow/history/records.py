"""What is known of a run after its journal was read. Times are seconds since the epoch, durations milliseconds."""

from typing import Literal, TypeAlias

import msgspec

from stepflow.flow.model import Flow
from stepflow.history.durations import Durations
from stepflow.records import ErrorCode, Failed, RunId, RunRecord, RunStatus

SHOWN = 20
"""Items that are named, of those that are counted."""


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """What steps waited for, outside the engine."""

    step: int
    reason: str
    count: int  # how often
    now: int  # how many wait for it still
    since: float  # of the oldest that waits still, else of the last


class StepHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a step over all items."""

    index: int
    id: str
    component: str = ""
    ok: int = 0
    failed: int = 0
    skipped: int = 0  # not called, since a step whose value it needs had failed
    defaulted: int = 0  # failed, and its default was taken
    retried: int = 0  # attempts that failed and were followed by another
    lost: int = 0  # attempts that ended with their engine
    under_way: int = 0
    retrying: int = 0  # wait for their next attempt now
    waits: tuple[Waits, ...] = ()  # what for, now
    running: Durations = Durations()  # of attempts, from start to outcome; in a named queue from when a worker began
    queued: Durations = Durations()  # of those in a named queue: until a worker began
    ready: Durations = Durations()  # from when an attempt could start until it did, where the events tell


Fate: TypeAlias = Literal["lives", "lost", "released", "ended"]


class Stint(msgspec.Struct, frozen=True, kw_only=True):
    """The time that one start of an engine had the run."""

    owner: str
    name: str  # of the engine; empty where the events don't tell
    since: float
    until: float | None  # when it was last heard of in the journal; None: it has the run
    fate: Fate  # lost: another engine took over and nobody had said goodbye


class Pause(msgspec.Struct, frozen=True):
    since: float
    until: float | None


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Items that failed with one code at one step."""

    code: ErrorCode
    step: str | None  # None: no step, such as the flow's output or a refused input
    message: str  # of the first
    count: int
    items: tuple[int, ...]  # the first of them


class PendingRetry(msgspec.Struct, frozen=True, kw_only=True):
    item: int
    step: int
    attempt: int  # the one that is to come
    due: float | None  # None: the events that are left don't tell
    error: Failed | None


Verdict: TypeAlias = Literal["ok", "failed", "defaulted", "retried", "lost", "released", "open"]


class Span(msgspec.Struct, frozen=True, gc=False):
    """An attempt, in milliseconds since the run started."""

    step: int
    attempt: int
    start: int
    end: int
    verdict: Verdict
    free: int = -1  # when it could have started; -1: not known


class ItemHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts of one item, in the order they ended; of an open one, those under way come last."""

    index: int
    start: int
    end: int
    ok: bool | None  # None: it has not ended
    spans: tuple[Span, ...]

    @property
    def duration_ms(self) -> int:
        return self.end - self.start


class Busy(msgspec.Struct, frozen=True):
    """What went on in equal parts of a run's time."""

    width_ms: int
    busy_ms: tuple[tuple[float, ...], ...]  # by step: time that its attempts were under way, within each part
    ended: tuple[int, ...]  # items
    failed: tuple[int, ...]  # those of them that failed


class SubRunHistory(msgspec.Struct, frozen=True, kw_only=True):
    record: RunRecord
    children: "SubRuns"


class SubRuns(msgspec.Struct, frozen=True, kw_only=True):
    """The runs that were started by steps of a run."""

    by_status: dict[RunStatus, int] = {}
    shown: tuple[SubRunHistory, ...] = ()  # unfinished ones first, then failed ones

    @property
    def count(self) -> int:
        return sum(self.by_status.values())


class History(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its record, its flow and its journal tell it."""

    record: RunRecord
    flow: Flow | None  # None: it is not stored any more
    began: float
    last_at: float  # of the newest event
    is_complete: bool  # every event is still there; else statistics speak only of those that are
    missing: int  # events that are not
    admitted: int  # items that came in
    is_closed: bool  # no more will
    ended: int
    steps: tuple[StepHistory, ...]
    stints: tuple[Stint, ...]
    pauses: tuple[Pause, ...]
    failures: tuple[FailureGroup, ...]
    waits: tuple[Waits, ...]
    retries: tuple[PendingRetry, ...]  # the first due
    retrying: int
    in_flight: tuple[ItemHistory, ...]  # the first of the items that have begun and not ended
    open: int
    items: tuple[ItemHistory, ...] | None  # all that began; None: too many to keep
    busy: Busy
    slowest: tuple[ItemHistory, ...]  # the longest first
    last: ItemHistory | None  # that ended
    durations: Durations  # of items, from their first step to their end
    sub_runs: SubRuns
    held: str | None = None  # why nothing of it can begin where it is, such as a secret that is missing
    max_concurrency: int | None = None  # as it was asked for
    retry_of: RunId | None = None

    @property
    def elapsed_ms(self) -> int:
        """From the start to the end, or to the newest event."""
        return round(1_000 * ((self.record.ended_at or self.last_at) - self.began))
