"""How far a run is: counted from its events, shown on a terminal's stderr."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as Row
from rich.text import Text

from stepflow.execution.events import InputsClosed, ItemEnded, RunStarted, StepFailed, StepWaiting
from stepflow.records import Failed, Json, RunId, RunRecord, Task

_KEPT_FAILURES = 1_000  # failed items whose steps are remembered


class Tally:
    """Watches one root run, the first that starts: its id, and how many of its items ended and failed."""

    def __init__(self, *, on_start: Callable[[RunId], object] | None = None) -> None:
        self.run_id: RunId | None = None
        self.total: int | None = None
        self.succeeded = 0
        self.failed = 0
        self.before = 0  # items that had ended when a run was taken up again
        self._on_start = on_start
        self._failures: dict[int, list[StepFailed]] = {}

    @property
    def ended(self) -> int:
        return self.before + self.succeeded + self.failed

    def follow(self, run_id: RunId) -> None:
        """Watch a run that was started earlier."""
        self.run_id = run_id

    def on_event(self, run_id: RunId, event: object) -> None:
        if self.run_id is None and isinstance(event, RunStarted):
            self.run_id = run_id
            if self._on_start is not None:
                self._on_start(run_id)
        if run_id != self.run_id:
            return
        if isinstance(event, StepFailed):
            self._failures.setdefault(event.item, []).append(event)
        elif isinstance(event, ItemEnded):
            self._count(event)
        elif isinstance(event, InputsClosed):
            self.total = event.count

    def _count(self, ended: ItemEnded) -> None:
        if not isinstance(ended.outcome, Failed):
            self.succeeded += 1
            self._failures.pop(ended.item, None)
            return
        self.failed += 1
        if self.failed > _KEPT_FAILURES:
            self._failures.pop(ended.item, None)

    def failed_step(self, item: int, error: Failed) -> int | None:
        """The step, by its place in the flow, that an item's failure came from; None where that is not known."""
        failures = self._failures.pop(item, ())
        return next((failure.step for failure in failures if failure.error == error), None)

    def on_progress(self, task: Task, progress: Json) -> None:
        pass


class Totals:
    """Watches several root runs: how many of their items ended and failed, and what their steps wait for."""

    def __init__(self, *, on_wait: Callable[[RunId, StepWaiting], object]) -> None:
        self.total: int | None = 0
        self.ended = 0
        self.failed = 0
        self._followed: set[RunId] = set()
        self._on_wait = on_wait

    def follow(self, record: RunRecord) -> None:
        """Watch a run from where it stands."""
        self._followed.add(record.id)
        self.total = (self.total or 0) + (record.total or 0)
        self.ended += record.succeeded + record.failed

    def on_event(self, run_id: RunId, event: object) -> None:
        if isinstance(event, StepWaiting):
            self._on_wait(run_id, event)
        elif isinstance(event, ItemEnded) and run_id in self._followed:
            self.ended += 1
            self.failed += isinstance(event.outcome, Failed)

    def on_progress(self, task: Task, progress: Json) -> None:
        pass


class Counted(Protocol):
    """What a bar shows."""

    total: int | None
    failed: int

    @property
    def ended(self) -> int:
        """Items, with those that had ended before."""
        ...


@contextmanager
def bar(tally: Counted, *, shown: bool) -> Iterator[None]:
    """A bar with done, failures, rate and time to go, while inside; nothing where `shown` is false."""
    if not shown:
        yield
        return
    with _Following(tally):
        yield


def is_wanted(*, results_on_stdout: bool) -> bool:
    """A bar is for a person: stderr is a terminal, and results don't run over the same one."""
    return sys.stderr.isatty() and not (results_on_stdout and sys.stdout.isatty())


class _Following(Progress):
    """Reads the tally whenever it is painted, so that an event costs the run nothing."""

    def __init__(self, tally: Counted) -> None:
        self._tally = tally
        failures = TextColumn("[red]{task.fields[failed]}")
        columns = (BarColumn(), MofNCompleteColumn(), failures, _Rate(), TimeRemainingColumn())
        super().__init__(*columns, console=Console(stderr=True), transient=True)
        self._row = self.add_task("", total=tally.total, failed="")

    def get_renderables(self) -> Iterable[RenderableType]:
        if hasattr(self, "_row"):  # painted once before there is a row
            failed = f"{self._tally.failed:,} failed" if self._tally.failed else ""
            self.update(self._row, completed=self._tally.ended, total=self._tally.total, failed=failed)
        yield from super().get_renderables()


class _Rate(ProgressColumn):
    def render(self, task: Row) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="progress.data.speed")
