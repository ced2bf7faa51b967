"""What an item's end, and a run's, hung on."""

from collections.abc import Callable

from stepflow.execution.events import ItemEnded, RunEnded, StepStarted, StepSucceeded
from stepflow.history.critical_path import Segment, item_path, run_path
from stepflow.history.records import History, ItemHistory, Span
from stepflow.records import RunStatus, Succeeded

DIAMOND = ((), (0,), (0,), (1, 2))


def item(*spans: Span, start: int = 0, end: int) -> ItemHistory:
    return ItemHistory(index=0, start=start, end=end, ok=True, spans=spans)


def test_the_path_follows_the_branch_that_ended_last() -> None:
    spans = (Span(0, 1, 0, 10, "ok"), Span(1, 1, 10, 20, "ok"), Span(2, 1, 10, 90, "ok"), Span(3, 1, 90, 95, "ok"))

    path = item_path(item(*spans, end=95), DIAMOND)

    assert [(segment.kind, segment.step, segment.length) for segment in path] == [
        ("running", 0, 10),
        ("running", 2, 80),
        ("running", 3, 5),
    ]


def test_waits_for_a_slot_and_for_the_end_are_part_of_the_path() -> None:
    spans = (Span(0, 1, 5, 10, "ok"), Span(1, 1, 30, 40, "ok"))

    path = item_path(item(*spans, start=5, end=47), DIAMOND)

    assert path == (
        Segment("running", 5, 10, 0, 1, "ok"),
        Segment("ready", 10, 30, 1, 1),
        Segment("running", 30, 40, 1, 1, "ok"),
        Segment("after", 40, 47),
    )


def test_attempts_are_told_apart_by_what_was_between_them() -> None:
    spans = (Span(0, 1, 0, 10, "retried"), Span(0, 2, 50, 60, "lost"), Span(0, 3, 99, 100, "ok"))

    path = item_path(item(*spans, end=100), DIAMOND)

    assert [(segment.kind, segment.length) for segment in path] == [
        ("running", 10),
        ("retry", 40),
        ("running", 10),
        ("down", 39),
        ("running", 1),
    ]


def test_the_stretches_of_a_path_add_up_to_the_item() -> None:
    spans = (Span(0, 1, 3, 3, "ok"), Span(2, 1, 3, 3, "ok"), Span(1, 1, 8, 20, "ok"), Span(3, 1, 21, 30, "ok"))

    path = item_path(item(*spans, start=3, end=31), DIAMOND)

    assert sum(segment.length for segment in path) == 28
    assert [first.end for first in path[:-1]] == [second.start for second in path[1:]]


def test_any_step_may_have_been_waited_for_where_the_flow_is_gone() -> None:
    spans = (Span(0, 1, 0, 10, "ok"), Span(7, 1, 10, 20, "ok"))

    assert [segment.step for segment in item_path(item(*spans, end=20), ())] == [0, 7]


def test_an_item_without_attempts_has_no_path() -> None:
    assert item_path(item(end=5), DIAMOND) == ()


def test_the_path_of_a_run_is_that_of_its_last_item(tell: Callable[..., History]) -> None:
    history = tell(
        StepStarted(0, 0, 1, 0),
        StepSucceeded(0, 0, 1, 60),
        ItemEnded(0, Succeeded(1), 60),
        StepStarted(1, 0, 1, 60),
        StepSucceeded(1, 0, 1, 70),
        ItemEnded(1, Succeeded(1), 70),
        RunEnded(RunStatus.COMPLETED, 75),
        total=2,
    )

    path = run_path(history, ((), (0,)))

    assert [(segment.kind, segment.start, segment.end) for segment in path] == [
        ("before", 0, 60),
        ("running", 60, 70),
        ("after", 70, 75),
    ]
