"""A run's history as plain rows."""

from collections.abc import Callable

from stepflow.execution.events import (
    ItemEnded,
    RunClaimed,
    RunEnded,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    StepWaiting,
)
from stepflow.history.records import History, SubRuns
from stepflow.history.table import ShownFailure, ShownStep, show_table
from stepflow.records import ErrorCode, Failed, RunStatus, Succeeded

Tell = Callable[..., History]

BROKEN = Failed(ErrorCode.COMPONENT_FAILED, "it broke")


def test_a_row_a_step_tells_what_became_of_it(tell: Tell) -> None:
    history = tell(
        StepStarted(0, 0, 1, 0),
        StepRetried(0, 0, 1, BROKEN, 0.1, 5),
        StepStarted(0, 0, 2, 105),
        StepSucceeded(0, 0, 1, 4_305),
        ItemEnded(0, Succeeded(1), 4_305),
        RunEnded(RunStatus.COMPLETED, 4_305),
    )

    load, rank = show_table(history).steps

    assert load == ShownStep(
        step="load",
        component="/load",
        ok=1,
        failed=0,
        skipped=0,
        defaulted=0,
        retried=1,
        lost=0,
        p50="5 ms",
        p99="4.2 s",
        queued="",
        waiting_on="",
    )
    assert (rank.ok, rank.p50, rank.waiting_on) == (0, "", "")


def test_time_in_a_queue_is_told_apart_from_the_work(tell: Tell) -> None:
    history = tell(
        *(StepStarted(item, 0, 1, 0) for item in range(3)),
        StepRetried(0, 0, 1, BROKEN, 0.0, 5_000, queued=4_000),
        StepSucceeded(1, 0, 1, 6_000, queued=5_000),
        StepFailed(2, 0, BROKEN, 7_000, queued=6_000),
        total=3,
    )

    row = show_table(history).steps[0]

    assert (row.queued, row.p50, row.p99) == ("5.0 s", "1.0 s", "1.0 s")


def test_what_a_step_waits_on_is_told_in_words(tell: Tell) -> None:
    history = tell(
        *(StepStarted(item, 0, 1, 0) for item in range(5)),
        StepWaiting(0, 0, "a worker of queue gpu", 2_000),
        StepWaiting(1, 0, "a worker of queue gpu", 3_000),
        StepRetried(2, 0, 1, BROKEN, 9.0, 3_000),
        total=5,
    )

    row = show_table(history).steps[0]

    assert row.waiting_on == "a worker of queue gpu (2 since 22:13:22 UTC), 1 between retries, 2 under way"


def test_failures_are_told_with_their_items(tell: Tell) -> None:
    ends = [event for item in range(25) for event in (StepFailed(item, 1, BROKEN, 1), ItemEnded(item, BROKEN, 1))]

    (failure,) = show_table(tell(*ends, total=25)).failures

    assert failure == ShownFailure(
        code="COMPONENT_FAILED",
        step="rank",
        count=25,
        items="0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 5 more",
        message="it broke",
    )


def test_the_facts_of_a_run_stand_above(tell: Tell) -> None:
    error = Failed(ErrorCode.TIMEOUT, "too late")
    history = tell(
        StepStarted(0, 0, 1, 0),
        RunClaimed("engine-2", "two", 50),
        RunEnded(RunStatus.FAILED, 61_000, error),
        total=3,
        failed=3,
        sub_runs=SubRuns(by_status={RunStatus.COMPLETED: 1_200}),
    )

    facts = dict(show_table(history).facts)

    assert facts["status"] == "failed"
    assert facts["items"] == "3 of 3: 0 ok, 3 failed"
    assert facts["time"] == "1 min 1 s"
    assert facts["engines"] == "2, 1 of them lost"
    assert facts["sub-runs"] == "1,200 completed"
    assert facts["error"] == "TIMEOUT: too late"


def test_what_holds_the_whole_run_is_noted(tell: Tell) -> None:
    (note,) = show_table(tell(StepWaiting(-1, -1, "the environment variable KEY is not set", 5))).notes

    assert note == "none of its steps can begin: the environment variable KEY is not set"


def test_figures_that_leave_something_out_say_so(tell: Tell) -> None:
    (note,) = show_table(tell(missing=1_234)).notes

    assert "1,234 earlier events are not kept" in note
