"""What happened in a run and is not in its journal yet: the rows and the writes that it makes."""

from typing import Any

import pytest

from stepflow.execution.events import (
    Event,
    InputsClosed,
    ItemEnded,
    ItemsAdmitted,
    RunEnded,
    RunPaused,
    RunResumed,
    StepStarted,
    StepSucceeded,
    decode_events,
)
from stepflow.execution.state import RunState
from stepflow.execution.unwritten import Unwritten
from stepflow.flow.read import flow_from_json
from stepflow.plan.compile import build_plan
from stepflow.records import ItemResult, Lease, RunRecord, RunStatus, Succeeded, Write
from stepflow.testing.suites.writes import record

RUN = "019a0000-0000-7000-8000-000000000001"
LEASE = Lease("an engine", 3)
RECORD: RunRecord = record(RUN)
FLOW = {"steps": [{"id": "a", "component": "/x", "input": {"$input": "$"}}], "output": {"$step": "a"}}
STARTED_AT = 1_000.0


class Ledger:
    """A run of one step an item, whose events are applied and noted as its engine does it."""

    def __init__(self) -> None:
        self.state = RunState(build_plan(flow_from_json(FLOW)), {})
        self.unwritten = Unwritten(RUN, LEASE, STARTED_AT, self.state)

    def note(self, *events: Event) -> None:
        for event in events:
            self.state.apply(event)
            if isinstance(event, (StepStarted, StepSucceeded, ItemEnded)):
                self.unwritten.add_of_item(event, event.item)
            else:
                self.unwritten.add(event)
            if isinstance(event, ItemEnded):
                self.unwritten.add_result(event)

    def admit(self, *inputs: Any) -> None:
        self.note(ItemsAdmitted(self.state.admitted, list(inputs)))
        while self.state.open_next() is not None:
            pass

    def take(self, checkpoint_every: int = 0) -> list[Write]:
        return self.unwritten.take(self.unwritten.rows(), checkpoint_every, RECORD, "an older run")


def ended(item: int, output: Any = "done") -> list[Event]:
    return [StepStarted(item, 0, 1, 5), StepSucceeded(item, 0, output, 6), ItemEnded(item, Succeeded(output), 7)]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_inputs_are_rows_by_themselves_between_what_came_before_and_after(ledger: Ledger) -> None:
    ledger.admit("a", "b")
    ledger.note(StepStarted(0, 0, 1, 5), StepStarted(1, 0, 1, 5))
    ledger.admit("c")

    writes = ledger.take()

    assert [decode_events(one.payload) for one in writes] == [
        [ItemsAdmitted(0, ["a", "b"])],
        [StepStarted(0, 0, 1, 5), StepStarted(1, 0, 1, 5)],
        [ItemsAdmitted(2, ["c"])],
    ]
    assert [(one.first, one.count, one.has_inputs) for one in writes] == [(1, 1, True), (2, 2, False), (4, 1, True)]
    assert [(one.min_item, one.max_item) for one in (writes[0], writes[2])] == [(0, 1), (2, 2)]


def test_a_row_says_which_items_it_speaks_of(ledger: Ledger) -> None:
    ledger.admit(*"abcd")
    ledger.take()
    ledger.note(StepStarted(2, 0, 1, 5), StepStarted(1, 0, 1, 5), StepStarted(3, 0, 1, 5))

    (items,) = ledger.take()
    ledger.note(RunPaused(6))
    (none,) = ledger.take()

    assert (items.min_item, items.max_item) == (1, 3)
    assert (none.min_item, none.max_item) == (-1, -1)


def test_only_the_first_write_of_a_run_makes_it(ledger: Ledger) -> None:
    ledger.admit("a")
    ledger.note(StepStarted(0, 0, 1, 5))
    first, second = ledger.take()

    assert (first.new, first.supersedes) == (RECORD, "an older run")
    assert (second.new, second.supersedes) == (None, None)
    assert (first.run_id, first.lease) == (RUN, LEASE)


def test_a_run_that_was_restored_goes_on_behind_its_last_entry(ledger: Ledger) -> None:
    ledger.unwritten.restored(41)
    ledger.admit("a")

    (one,) = ledger.take()

    assert (one.first, one.new) == (42, None)
    assert ledger.unwritten.first == 43


def test_nothing_is_unwritten_after_it_was_taken(ledger: Ledger) -> None:
    ledger.admit("a")
    ledger.note(*ended(0))
    ledger.take()

    assert (ledger.unwritten.events, ledger.unwritten.rows(), ledger.take()) == ([], [], [])


def test_results_go_with_the_events_of_their_end_and_count(ledger: Ledger) -> None:
    ledger.admit("a", "b")
    ledger.take()
    ledger.note(*ended(0, "x"), StepStarted(1, 0, 1, 8))
    (first,) = ledger.take()
    ledger.note(*ended(1, "y")[1:])
    (second,) = ledger.take()

    assert (first.results, second.results) == (
        [ItemResult(0, Succeeded("x"))],
        [ItemResult(1, Succeeded("y"))],
    )
    assert first.change is not None
    assert second.change is not None
    assert (first.change.succeeded, second.change.succeeded) == (1, 2)


def test_what_changes_no_row_of_the_run_says_so(ledger: Ledger) -> None:
    ledger.admit("a")
    ledger.take()
    ledger.note(StepStarted(0, 0, 1, 5))
    (started,) = ledger.take()
    ledger.note(InputsClosed(1))
    (closed,) = ledger.take()

    assert started.change is None
    assert closed.change is not None
    assert (closed.change.status, closed.change.total) == (None, 1)


def test_a_pause_is_stored_once_and_so_is_its_end(ledger: Ledger) -> None:
    ledger.admit("a")
    ledger.take()
    changes = []
    for event in (RunPaused(1), StepStarted(0, 0, 1, 5), RunResumed(6)):
        ledger.note(event)
        (one,) = ledger.take()
        changes.append(one.change)

    assert [None if each is None else each.status for each in changes] == [RunStatus.PAUSED, None, RunStatus.RUNNING]


def test_the_end_of_a_run_is_a_time_and_all_counts(ledger: Ledger) -> None:
    ledger.admit("a")
    ledger.note(InputsClosed(1), *ended(0), RunEnded(RunStatus.COMPLETED, 2_500))

    change = ledger.take(checkpoint_every=1)[-1].change

    assert change is not None
    assert (change.status, change.ended_at) == (RunStatus.COMPLETED, STARTED_AT + 2.5)
    assert (change.total, change.succeeded, change.failed) == (1, 1, 0)


def test_a_checkpoint_comes_after_so_many_events_and_never_after_the_end(ledger: Ledger) -> None:
    ledger.admit(*"abc")
    counts = []
    for item in range(3):
        ledger.note(*ended(item))
        counts.append([one.is_checkpoint for one in ledger.take(checkpoint_every=5)])
    ledger.note(InputsClosed(3), RunEnded(RunStatus.COMPLETED, 9))
    counts.append([one.is_checkpoint for one in ledger.take(checkpoint_every=1)])

    assert counts == [[False, False], [False, True], [False], [False]]


def test_a_checkpoint_stands_behind_what_it_sums_up_and_moves_what_comes_next(ledger: Ledger) -> None:
    ledger.admit(*"abc")
    ledger.note(*ended(0))
    *_, last, checkpoint = ledger.take(checkpoint_every=1)
    ledger.note(StepStarted(1, 0, 1, 9))
    (following,) = ledger.take()

    assert checkpoint.is_checkpoint
    assert (checkpoint.first, checkpoint.count, checkpoint.min_item) == (last.first + last.count, 1, 1)
    assert following.first == checkpoint.first + 1


def test_what_json_cannot_say_is_dropped_with_the_end_that_counted_on_it(ledger: Ledger) -> None:
    ledger.admit("a", "b")
    ledger.take()
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    ledger.note(*ended(0), *ended(1, cyclic), InputsClosed(2), RunEnded(RunStatus.COMPLETED, 9))
    with pytest.raises((RecursionError, TypeError, ValueError)):
        ledger.unwritten.rows()

    ledger.unwritten.drop_unwritable()
    (one,) = ledger.take()

    assert decode_events(one.payload) == [*ended(0), StepStarted(1, 0, 1, 5), InputsClosed(2)]
    assert one.results == [ItemResult(0, Succeeded("done"))]
