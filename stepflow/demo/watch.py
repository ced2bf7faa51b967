"""When each step ran, as the engine's events tell it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from statistics import median

import msgspec

from stepflow.execution.events import (
    ItemEnded,
    RunStarted,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
)
from stepflow.protocols import Observer
from stepflow.records import Failed, RunId, Task


class Span(msgspec.Struct, frozen=True):
    """One step of one item, in milliseconds since the run started."""

    item: int
    step: int
    start: int
    end: int
    failure: Failed | None = None


class Watch(Observer):
    """Remembers the runs of one engine, by the names of their flows. The counts are those of the first run."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}
        self.done = 0
        self.failed = 0
        self.tolerated = 0  # failures for which a step's default stood in
        self.repeated: Counter[int] = Counter()  # by step: begun again though no attempt had failed
        self._names: dict[RunId, str] = {}
        self._starts: dict[tuple[RunId, int, int], int] = {}

    @property
    def under_way(self) -> Sequence[int]:
        """The items that have a step under way."""
        return sorted({item for _, item, _ in self._starts})

    def on_event(self, run_id: RunId, event: object) -> None:
        match event:
            case RunStarted():
                self._names[run_id] = event.flow_name or run_id
                self.spans[self._names[run_id]] = []
            case StepStarted():
                self.repeated[event.step] += (run_id, event.item, event.step) in self._starts
                self._starts[run_id, event.item, event.step] = event.at
            case StepRetried():
                self._starts.pop((run_id, event.item, event.step), None)
            case StepSucceeded():
                self._ended(run_id, event, None)
            case StepFailed():
                self._ended(run_id, event, event.error)
            case StepDefaulted():
                self._ended(run_id, event, event.error)
                self.tolerated += 1
            case ItemEnded() if len(self._names) == 1:
                self.done += 1
                self.failed += isinstance(event.outcome, Failed)

    def on_progress(self, task: Task, progress: object) -> None:
        """The audit's components report none."""

    def _ended(self, run_id: RunId, event: StepSucceeded | StepFailed | StepDefaulted, failure: Failed | None) -> None:
        start = self._starts.pop((run_id, event.item, event.step), event.at)
        self.spans[self._names[run_id]].append(Span(event.item, event.step, start, event.at, failure))


class Pool(msgspec.Struct, frozen=True):
    """Workers that take calls of some steps, in the order in which the calls were started."""

    name: str
    places: int
    steps: tuple[int, ...]


def at_work(spans: Iterable[Span], pools: Sequence[Pool]) -> list[tuple[str, Span]]:
    """Each span without its wait for a place in its pool, and the name of the place, in the order of the starts.

    The engine tells when a call was started and when it ended. It began when it was started, or when the first place
    became free, whichever was later.
    """
    waiting = sorted(spans, key=lambda span: (span.start, span.item, span.step))
    found = []
    for pool in pools:
        free = [(0, place) for place in range(1, pool.places + 1)]
        for span in waiting:
            if span.step in pool.steps:
                since, place = heappop(free)
                heappush(free, (span.end, place))
                begun = min(max(span.start, since), span.end)
                found.append((f"{pool.name} {place}", msgspec.structs.replace(span, start=begun)))
    return sorted(found, key=lambda placed: (placed[1].start, placed[1].item, placed[1].step))


def worked_on(waiting: Mapping[int, int], pools: Sequence[Pool]) -> int:
    """How many of the calls that were begun, so many of each step, had a place; the others waited for one."""
    return sum(min(pool.places, sum(waiting.get(step, 0) for step in pool.steps)) for pool in pools)


def step_notes(spans: Iterable[Span], step_ids: Sequence[str]) -> dict[str, str]:
    """A line for each step that ran: how often, its median time, its failures."""
    notes = {}
    for number, step_id in enumerate(step_ids):
        own = [span for span in spans if span.step == number]
        if not own:
            continue
        failures = sum(span.failure is not None for span in own)
        middle = median(span.end - span.start for span in own)
        notes[step_id] = f"{len(own):,} × p50 {middle:,.0f} ms" + (f" · {failures:,} failed" if failures else "")
    return notes
