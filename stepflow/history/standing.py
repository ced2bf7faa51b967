"""What is open in a run: attempts under way, waits, retries to come, who has it. Pure, and bounded by what is open."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from stepflow.execution.events import (
    Checkpointed,
    Event,
    InputsClosed,
    ItemEnded,
    ItemsAdmitted,
    OpenItemSnapshot,
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
from stepflow.records import Failed, Succeeded

Place: TypeAlias = tuple[int, int]
"""Item and step."""

UNKNOWN = -1
"""Stands for a time that the events which are left don't tell."""


class Attempt(msgspec.Struct, gc=False):
    """An attempt that has no outcome yet."""

    number: int
    at: int  # milliseconds since the run started, or UNKNOWN
    reason: str = ""  # what it waits for; empty: for its component's answer
    waits_since: int = UNKNOWN


class Retry(msgspec.Struct, frozen=True):
    """A failed attempt that is followed by another."""

    number: int  # of the attempt to come
    due: float  # milliseconds since the run started, or UNKNOWN
    error: Failed | None


class Holder(msgspec.Struct):
    """The time that one start of an engine had the run, in milliseconds since the run started."""

    owner: str
    name: str
    since: int
    until: int = UNKNOWN
    fate: Literal["lives", "lost", "released", "ended"] = "lives"


class Standing:
    """What a run's events leave open."""

    def __init__(self) -> None:
        self.started: RunStarted | None = None
        self.under_way: dict[Place, Attempt] = {}
        self.retries: dict[Place, Retry] = {}
        self.items: dict[int, int] = {}  # items that have begun and not ended: when, or UNKNOWN
        self.holders: list[Holder] = []
        self.pauses: list[list[int]] = []  # begin and end, or UNKNOWN
        self.admitted = 0
        self.total: int | None = None
        self.succeeded = 0
        self.failed = 0
        self.last_at = 0
        self.fed_by = ""  # who had the run when inputs came in last
        self.has_ended = False
        self.held: Attempt | None = None  # where nothing of the run may begin: why, and since when

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed

    @property
    def paused_since(self) -> int | None:
        """When the pause began that goes on, or UNKNOWN; None: there is none."""
        return self.pauses[-1][0] if self.pauses and self.pauses[-1][1] == UNKNOWN else None

    def absolute(self, ms: float) -> float:
        """A time of the run in seconds since the epoch."""
        return (self.started.started_at if self.started is not None else 0.0) + ms / 1_000

    def known(self, ms: float) -> float | None:
        return None if ms == UNKNOWN else self.absolute(ms)

    def apply(self, event: Event) -> None:
        """Change as the event says."""
        self._APPLY[type(event)](self, event)

    def start(self, event: StepStarted) -> Attempt | None:
        """An attempt begins. Gives the one before it, where that never came to an end."""
        place = (event.item, event.step)
        before = self.under_way.get(place)
        self.under_way[place] = Attempt(event.attempt, event.at)
        self.retries.pop(place, None)
        self.items.setdefault(event.item, event.at)
        self.held = None
        self.last_at = event.at
        return before

    def finish(self, item: int, step: int, at: int) -> Attempt | None:
        """A step comes to an end. Gives the attempt that did it; None: the events don't tell of its start."""
        place = (item, step)
        if self.retries:
            self.retries.pop(place, None)
        self.last_at = at
        return self.under_way.pop(place, None)

    def retry(self, event: StepRetried) -> Attempt | None:
        """An attempt fails and another follows. Gives the one that failed."""
        place = (event.item, event.step)
        self.retries[place] = Retry(event.attempt + 1, event.at + event.delay_s * 1_000, event.error)
        self.last_at = event.at
        return self.under_way.pop(place, None)

    def wait(self, event: StepWaiting) -> None:
        if event.step < 0:
            self.held = Attempt(0, event.at, event.reason, event.at)
            self.last_at = event.at
            return
        attempt = self.under_way.get((event.item, event.step))
        if attempt is not None:
            attempt.reason, attempt.waits_since = event.reason, event.at
        self.last_at = event.at

    def end_item(self, event: ItemEnded) -> int:
        """An item comes to an end. Gives when it began, or UNKNOWN."""
        if type(event.outcome) is Succeeded:
            self.succeeded += 1
        else:
            self.failed += 1
        self.last_at = event.at
        return self.items.pop(event.item, UNKNOWN)

    def claim(self, event: RunClaimed) -> dict[Place, Attempt]:
        """Another engine takes over. Gives the attempts that ended with the former one's death."""
        self._let_go(self.last_at, "lost")
        self.held = None
        self.holders.append(Holder(event.owner, event.name, event.at))
        lost, self.under_way = self.under_way, {}
        self.last_at = event.at
        return lost

    def release(self, event: RunReleased) -> dict[Place, Attempt]:
        """The engine lets go in an orderly way. Gives the attempts that ended with that."""
        self._let_go(event.at, "released")
        released, self.under_way = self.under_way, {}
        self.last_at = event.at
        return released

    def end(self, event: RunEnded) -> dict[Place, Attempt]:
        """Gives the attempts that the run's end came before."""
        left, self.under_way = self.under_way, {}
        self.retries.clear()
        self.items.clear()
        self._resume(event.at)
        self._let_go(event.at, "ended")
        self.has_ended = True
        self.last_at = event.at
        return left

    def miss(self) -> None:
        """Events are not there any more: whatever was open may have ended among them."""
        self.under_way.clear()
        self.retries.clear()
        self.items.clear()

    def restore(self, event: Checkpointed) -> None:
        """Become what the events amount to that a checkpoint replaced."""
        self.miss()
        self.admitted, self.total = event.admitted, event.total
        self.succeeded, self.failed = event.succeeded, event.failed
        self._resume(self.last_at)
        if event.is_paused:
            self.pauses.append([UNKNOWN, UNKNOWN])
        for snapshot in event.open:
            self._open(snapshot)

    def _open(self, snapshot: OpenItemSnapshot) -> None:
        self.items[snapshot.index] = UNKNOWN
        finished = {step for step, _, _ in snapshot.outputs}
        failures = {step: transport + component for step, transport, component in snapshot.retries}
        broken = {step: starts for step, starts, _ in snapshot.broken}
        due = dict(snapshot.due)
        for step, number in snapshot.attempts:
            if step in finished:
                continue
            place = (snapshot.index, step)
            if number > failures.get(step, 0) + broken.get(step, 0):
                self.under_way[place] = Attempt(number, UNKNOWN)
            elif step in failures:
                self.retries[place] = Retry(number + 1, due.get(step, UNKNOWN), None)

    def _let_go(self, at: int, fate: Literal["lost", "released", "ended"]) -> None:
        if self.holders and self.holders[-1].fate == "lives":
            self.holders[-1].until, self.holders[-1].fate = at, fate

    def _resume(self, at: int) -> None:
        if self.paused_since is not None:
            self.pauses[-1][1] = at

    def begin(self, event: RunStarted) -> None:
        self.started = event
        self.holders.append(Holder(event.owner, "", 0))

    def admit(self, event: ItemsAdmitted) -> None:
        self.admitted = max(self.admitted, event.first + len(event.inputs))
        self.fed_by = self.holders[-1].owner if self.holders else ""

    def close(self, event: InputsClosed) -> None:
        self.total = event.count

    def pause(self, event: RunPaused) -> None:
        if self.paused_since is None:
            self.pauses.append([event.at, UNKNOWN])
        self.last_at = event.at

    def resume(self, event: RunResumed) -> None:
        self._resume(event.at)
        self.last_at = event.at

    def link(self, event: SubRunLinked) -> None:
        self.last_at = event.at

    def _finished(self, event: StepSucceeded | StepFailed | StepDefaulted) -> None:
        self.finish(event.item, event.step, event.at)

    def _checkpointed(self, event: Checkpointed) -> None:
        """Says nothing new to whoever has seen the events before it."""

    _APPLY: ClassVar[dict[type, Callable[["Standing", Any], object]]] = {
        RunStarted: begin,
        ItemsAdmitted: admit,
        InputsClosed: close,
        StepStarted: start,
        StepSucceeded: _finished,
        StepFailed: _finished,
        StepDefaulted: _finished,
        StepRetried: retry,
        StepWaiting: wait,
        SubRunLinked: link,
        ItemEnded: end_item,
        RunClaimed: claim,
        RunReleased: release,
        RunPaused: pause,
        RunResumed: resume,
        RunEnded: end,
        Checkpointed: _checkpointed,
    }
