"""From a run's events, one after the other, to the figures of its history. Pure, and bounded by what is open."""

from collections.abc import Callable, Iterable, Sequence
from heapq import heappush, heappushpop
from typing import Any

from stepflow.execution.events import (
    Checkpointed,
    Event,
    InputsClosed,
    ItemEnded,
    ItemsAdmitted,
    RunClaimed,
    RunEnded,
    RunPaused,
    RunReleased,
    RunResumed,
    RunStarted,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    StepWaiting,
    SubRunLinked,
)
from stepflow.history.bins import Bins
from stepflow.history.durations import Sketch
from stepflow.history.records import SHOWN, ItemHistory, Span, Verdict
from stepflow.history.standing import UNKNOWN, Attempt, Place, Standing
from stepflow.records import ErrorCode, Failed

KEPT_ITEMS = 60
"""A run with no more items than these is kept attempt by attempt."""

KEPT_SPANS = 2_000
"""Attempts of one item that are kept."""

KEPT_REASONS = 50
OTHER_REASONS = "other reasons"
SLOWEST = 5


class StepTally:
    """The counts of one step."""

    __slots__ = ("defaulted", "failed", "lost", "ok", "queued", "ready", "retried", "running", "skipped")

    def __init__(self) -> None:
        self.ok = 0
        self.failed = 0
        self.skipped = 0
        self.defaulted = 0
        self.retried = 0
        self.lost = 0
        self.running = Sketch()
        self.ready = Sketch()
        self.queued = Sketch()


class ItemTally:
    """An item that has begun: its attempts so far."""

    __slots__ = ("end", "ends", "failures", "free", "index", "ok", "spans", "start")

    def __init__(self, index: int, start: int) -> None:
        self.index = index
        self.start = start
        self.end = start
        self.ok: bool | None = None
        self.spans: list[Span] = []
        self.ends: dict[int, int] = {}  # by step
        self.free: dict[int, int] = {}  # by step: when the attempt under way could have begun
        self.failures: list[tuple[int, Failed]] = []

    @property
    def duration(self) -> int:
        return self.end - self.start

    def history(self) -> ItemHistory:
        return ItemHistory(index=self.index, start=self.start, end=self.end, ok=self.ok, spans=tuple(self.spans))


class GroupTally:
    """Items that failed alike."""

    __slots__ = ("count", "items", "message")

    def __init__(self, message: str) -> None:
        self.message = message
        self.count = 0
        self.items: list[int] = []


class WaitTally:
    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0


class Tally:
    """Counts what the events of a run tell.

    Args:
        names: the ids of the flow's steps; where the flow is not known, steps are added as they come up.
        components: theirs.
        needs: by step, the steps whose values its input names.
    """

    def __init__(self, names: Sequence[str], components: Sequence[str], needs: Sequence[Sequence[int]]) -> None:
        self.standing = Standing()
        self.names = list(names)
        self.components = list(components)
        self.needs = list(needs)
        self.steps = [StepTally() for _ in names]
        self.bins = Bins(len(names))
        self.items: dict[int, ItemTally] = {}
        self.kept: list[ItemTally] | None = []
        self.slowest: list[tuple[int, int, ItemTally]] = []
        self.last: ItemTally | None = None
        self.durations = Sketch()
        self.failures: dict[tuple[ErrorCode, int], GroupTally] = {}
        self.waits: dict[tuple[int, str], WaitTally] = {}
        self._handlers = self._all_handlers()

    def apply_all(self, events: Iterable[Event]) -> None:
        handlers = self._handlers
        for event in events:
            handlers[type(event)](event)

    def miss(self) -> None:
        """Events are not there any more."""
        self.standing.miss()
        self.items.clear()
        self.kept = None

    def restore(self, event: Checkpointed) -> None:
        """What the missing events amount to."""
        self.standing.restore(event)

    def _all_handlers(self) -> dict[type, Callable[[Any], object]]:
        standing = self.standing
        return {
            RunStarted: standing.begin,
            ItemsAdmitted: standing.admit,
            InputsClosed: standing.close,
            StepStarted: self._start,
            StepSucceeded: self._succeed,
            StepFailed: self._fail,
            StepDefaulted: self._default,
            StepRetried: self._retry,
            StepWaiting: self._wait,
            SubRunLinked: standing.link,
            ItemEnded: self._end_item,
            RunClaimed: self._claim,
            RunReleased: self._release,
            RunPaused: standing.pause,
            RunResumed: standing.resume,
            RunEnded: self._end,
            Checkpointed: standing.apply,
        }

    def _step(self, step: int) -> StepTally:
        while step >= len(self.steps):
            self.names.append(f"#{len(self.steps)}")
            self.components.append("")
            self.needs.append(())
            self.steps.append(StepTally())
            self.bins.add_step()
        return self.steps[step]

    def _start(self, event: StepStarted) -> None:
        index, step, at = event.item, event.step, event.at
        retry = self.standing.retries.get((index, step)) if self.standing.retries else None
        before = self.standing.start(event)
        counts = self._step(step)
        item = self.items.get(index)
        if item is None:
            item = self._begin(index, at)
        if before is not None:
            counts.lost += 1
        free = round(retry.due) if retry is not None and retry.due != UNKNOWN else self._free(item, step)
        if free != UNKNOWN and before is None:
            item.free[step] = free
            counts.ready.add(at - free)

    def _begin(self, index: int, at: int) -> ItemTally:
        item = self.items[index] = ItemTally(index, at)
        if self.kept is not None:
            self.kept.append(item)
            if len(self.kept) > KEPT_ITEMS:
                self.kept = None
        return item

    def _free(self, item: ItemTally, step: int) -> int:
        """When the values that a step needs were there; UNKNOWN where it needs none, or they are not told of."""
        ends = item.ends
        return max((ends[need] for need in self.needs[step] if need in ends), default=UNKNOWN)

    def _succeed(self, event: StepSucceeded) -> None:
        self._outcome(event, "ok")
        self.steps[event.step].ok += 1

    def _fail(self, event: StepFailed) -> None:
        item = self.items.get(event.item) or self._begin(event.item, event.at)
        if self._is_handed_down(item, event):
            self.standing.finish(event.item, event.step, event.at)
            self._step(event.step).skipped += 1
        else:
            self._outcome(event, "failed")
            self.steps[event.step].failed += 1
        item.failures.append((event.step, event.error))

    def _is_handed_down(self, item: ItemTally, event: StepFailed) -> bool:
        """Whether the failure is that of a step whose value was needed: nothing was called."""
        return any(
            error == event.error and (event.step >= len(self.needs) or step in self.needs[event.step])
            for step, error in item.failures
        )

    def _default(self, event: StepDefaulted) -> None:
        self._outcome(event, "defaulted")
        self.steps[event.step].defaulted += 1

    def _outcome(self, event: StepSucceeded | StepFailed | StepDefaulted, verdict: Verdict) -> None:
        attempt = self.standing.finish(event.item, event.step, event.at)
        self._step(event.step)
        self._record(event.item, event.step, attempt, event.at, verdict, event.queued)
        item = self.items.get(event.item)
        if item is not None:
            item.ends[event.step] = event.at

    def _record(
        self, index: int, step: int, attempt: Attempt | None, at: int, verdict: Verdict, queued: int = 0
    ) -> None:
        """An attempt came to an end of some kind."""
        if attempt is None or attempt.at == UNKNOWN:
            return
        if verdict not in ("lost", "released", "open"):
            self.steps[step].running.add(at - attempt.at - queued)
            if queued:
                self.steps[step].queued.add(queued)
        self.bins.add(step, attempt.at, at)
        item = self.items.get(index)
        if item is not None and len(item.spans) < KEPT_SPANS:
            free = item.free.pop(step, UNKNOWN) if item.free else UNKNOWN
            item.spans.append(Span(step, attempt.number, attempt.at, max(at, attempt.at), verdict, free))

    def _retry(self, event: StepRetried) -> None:
        attempt = self.standing.retry(event)
        self._step(event.step).retried += 1
        self._record(event.item, event.step, attempt, event.at, "retried", event.queued)

    def _wait(self, event: StepWaiting) -> None:
        self.standing.wait(event)
        if event.step < 0 or not event.reason:
            return  # the run as a whole waits, or a wait is over
        self._step(event.step)
        key = (event.step, event.reason)
        if key not in self.waits and len(self.waits) >= KEPT_REASONS:
            key = (event.step, OTHER_REASONS)
        wait = self.waits.setdefault(key, WaitTally())
        wait.count += 1
        wait.last = event.at

    def _end_item(self, event: ItemEnded) -> None:
        start = self.standing.end_item(event)
        item = self.items.pop(event.item, None) or ItemTally(event.item, event.at if start == UNKNOWN else start)
        item.end = max(event.at, item.start)
        failed = event.outcome if isinstance(event.outcome, Failed) else None
        item.ok = failed is None
        self.bins.end_item(event.at, failed=failed is not None)
        if start != UNKNOWN:
            self._measure(item)
        if failed is not None:
            self._group(item, failed)

    def _measure(self, item: ItemTally) -> None:
        self.last = item
        self.durations.add(item.duration)
        entry = (item.duration, -item.index, item)
        if len(self.slowest) < SLOWEST:
            heappush(self.slowest, entry)
        elif entry[:2] > self.slowest[0][:2]:
            heappushpop(self.slowest, entry)

    def _group(self, item: ItemTally, failed: Failed) -> None:
        step = next((step for step, error in item.failures if error == failed), UNKNOWN)
        group = self.failures.get((failed.code, step))
        if group is None:
            group = self.failures[failed.code, step] = GroupTally(failed.message)
        group.count += 1
        if len(group.items) < SHOWN:
            group.items.append(item.index)

    def _claim(self, event: RunClaimed) -> None:
        at = self.standing.last_at
        for place, attempt in self.standing.claim(event).items():
            self._step(place[1]).lost += 1
            self._cut(place, attempt, at, "lost")

    def _release(self, event: RunReleased) -> None:
        for place, attempt in self.standing.release(event).items():
            self._cut(place, attempt, event.at, "released")

    def _end(self, event: RunEnded) -> None:
        for place, attempt in self.standing.end(event).items():
            self._cut(place, attempt, event.at, "open")
        self.items.clear()

    def _cut(self, place: Place, attempt: Attempt, at: int, verdict: Verdict) -> None:
        self._step(place[1])
        self._record(*place, attempt, at, verdict)
