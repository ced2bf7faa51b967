from stepflow.demo.watch import Pool, Span, Watch, at_work, step_notes, worked_on
from stepflow.execution.events import (
    ItemEnded,
    RunEnded,
    RunStarted,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
)
from stepflow.records import ErrorCode, Failed, RunStatus, Succeeded

WRONG = Failed(ErrorCode.COMPONENT_FAILED, "no")


def started(run_id: str, name: str) -> RunStarted:
    return RunStarted(run_id=run_id, root_id=run_id, flow_id="0" * 64, started_at=0.0, flow_name=name)


def test_spans_go_from_start_to_end_of_the_last_attempt() -> None:
    watch = Watch()
    for event in (
        started("a", "first"),
        StepStarted(0, 0, 1, 5),
        StepRetried(0, 0, 1, WRONG, 0.001, 6),
        StepStarted(0, 0, 2, 7),
        StepSucceeded(0, 0, "x", 9),
        StepStarted(0, 1, 1, 9),
        StepDefaulted(0, 1, None, WRONG, 12),
        StepStarted(0, 2, 1, 12),
        StepFailed(0, 2, WRONG, 13),
        ItemEnded(0, WRONG, 13),
        RunEnded(RunStatus.FAILED, 13),
    ):
        watch.on_event("a", event)

    assert watch.spans == {"first": [Span(0, 0, 7, 9), Span(0, 1, 9, 12, WRONG), Span(0, 2, 12, 13, WRONG)]}
    assert (watch.done, watch.failed, watch.tolerated) == (1, 1, 1)


def test_items_of_the_second_run_are_not_counted() -> None:
    watch = Watch()
    for run_id, name in (("a", "first"), ("b", "second")):
        watch.on_event(run_id, started(run_id, name))
        watch.on_event(run_id, ItemEnded(0, Succeeded(None), 1))

    assert watch.done == 1
    assert list(watch.spans) == ["first", "second"]


def test_a_call_begins_when_a_place_of_its_pool_is_free() -> None:
    spans = [Span(0, 0, 0, 10), Span(1, 0, 0, 4), Span(2, 0, 1, 6), Span(0, 1, 10, 12), Span(1, 1, 4, 11)]

    found = at_work(spans, [Pool("readers", 2, (0,)), Pool("parsers", 1, (1,))])

    assert found == [
        ("readers 1", Span(0, 0, 0, 10)),
        ("readers 2", Span(1, 0, 0, 4)),
        ("parsers 1", Span(1, 1, 4, 11)),
        ("readers 2", Span(2, 0, 4, 6)),
        ("parsers 1", Span(0, 1, 11, 12)),
    ]


def test_notes_tell_count_median_and_failures() -> None:
    spans = [Span(0, 0, 0, 2), Span(1, 0, 0, 4), Span(2, 0, 0, 900), Span(0, 1, 0, 1, WRONG)]

    assert step_notes(spans, ["read", "parse", "never"]) == {
        "read": "3 × p50 4 ms",
        "parse": "1 × p50 1 ms · 1 failed",
    }


def test_a_step_that_is_begun_again_after_a_kill_is_counted() -> None:
    watch = Watch()
    for event in (
        started("a", "first"),
        StepStarted(0, 0, 1, 5),
        StepRetried(0, 0, 1, WRONG, 0.001, 6),
        StepStarted(0, 0, 2, 7),
        StepStarted(1, 0, 1, 7),
        StepStarted(1, 1, 1, 7),
        StepSucceeded(1, 1, "x", 8),
    ):
        watch.on_event("a", event)

    assert watch.under_way == [0, 1]
    assert watch.repeated.total() == 0
    watch.on_event("a", StepStarted(1, 0, 2, 20))
    assert watch.repeated == {0: 1, 1: 0}


def test_as_many_calls_are_worked_on_as_there_are_places() -> None:
    pools = [Pool("readers", 2, (0,)), Pool("parsers", 3, (1, 2))]

    assert worked_on({0: 9, 1: 1, 2: 1}, pools) == 4
