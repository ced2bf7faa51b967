import pytest

from stepflow.cli.runs.words import event_line
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
from stepflow.records import ErrorCode, Failed, RunStatus, Succeeded

WRONG = Failed(ErrorCode.TIMEOUT, "too\nlate")
STARTED = RunStarted(run_id="r", root_id="r", flow_id="f" * 64, started_at=9.0, flow_name="hello")


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (STARTED, "      0.000  run of hello"),
        (ItemsAdmitted(3, [1, 2]), "             2 inputs from item 3 on"),
        (InputsClosed(5), "             5 inputs in all"),
        (StepStarted(3, 0, 1, 1500), "      1.500  item 3  embed  begins"),
        (StepStarted(3, 0, 2, 1500), "      1.500  item 3  embed  begins, attempt 2"),
        (StepSucceeded(3, 1, "x", 1500), "      1.500  item 3  #1  succeeded"),
        (StepFailed(3, 0, WRONG, 1500), "      1.500  item 3  embed  failed with TIMEOUT: too late"),
        (
            StepDefaulted(3, 0, 0, WRONG, 2),
            "      0.002  item 3  embed  failed with TIMEOUT: too late; its default is taken",
        ),
        (
            StepRetried(3, 0, 1, WRONG, 0.25, 2),
            "      0.002  item 3  embed  attempt 1 failed with TIMEOUT: too late; the next in 0.250 s",
        ),
        (SubRunLinked(3, 0, "s", "k", 2), "      0.002  item 3  embed  started run s"),
        (StepWaiting(3, 0, "a worker", 2), "      0.002  item 3  embed  waits: a worker"),
        (StepWaiting(3, 0, "", 2), "      0.002  item 3  embed  waits no longer"),
        (ItemEnded(3, Succeeded(1), 2), "      0.002  item 3  done"),
        (ItemEnded(3, WRONG, 2), "      0.002  item 3  failed with TIMEOUT: too late"),
        (RunClaimed("o", "night", 2), "      0.002  taken over by night: what was under way begins again"),
        (RunReleased(2), "      0.002  its engine was closed"),
        (RunPaused(2), "      0.002  paused"),
        (RunResumed(2), "      0.002  resumed"),
        (RunEnded(RunStatus.COMPLETED, 2), "      0.002  run completed"),
        (RunEnded(RunStatus.FAILED, 2, WRONG), "      0.002  run failed: failed with TIMEOUT: too late"),
        (Checkpointed(1, [], 1, 1, 1, 0, []), "             checkpoint: 1 succeeded, 0 failed"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_each_event_is_a_line(event: Event, said: str) -> None:
    assert event_line(event, ["embed"]) == said
