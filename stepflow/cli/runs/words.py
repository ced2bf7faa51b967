"""Events as lines for people."""

from collections.abc import Sequence
from typing import assert_never

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
from stepflow.records import Failed


def event_line(event: Event, steps: Sequence[str]) -> str:
    """When, in seconds since the run began, and what; values are left out."""
    at = getattr(event, "at", 0 if isinstance(event, RunStarted) else None)
    when = "" if at is None else f"{at / 1_000:.3f}"
    return f"{when:>11}  {_what(event, steps)}"


def _what(event: Event, steps: Sequence[str]) -> str:
    match event:
        case StepWaiting() if event.step < 0:
            return _wait(event.reason)
        case (
            StepStarted()
            | StepSucceeded()
            | StepFailed()
            | StepDefaulted()
            | StepRetried()
            | SubRunLinked()
            | StepWaiting()
        ):
            return f"item {event.item:,}  {_step(steps, event.step)}  {_of_step(event)}"
        case ItemEnded():
            return f"item {event.item:,}  " + (_failure(event.outcome) if isinstance(event.outcome, Failed) else "done")
        case _:
            return _of_run(event)


def _wait(reason: str) -> str:
    return f"waits: {' '.join(reason.split())}" if reason else "waits no longer"


def _of_step(
    event: StepStarted | StepSucceeded | StepFailed | StepDefaulted | StepRetried | SubRunLinked | StepWaiting,
) -> str:
    match event:
        case StepStarted():
            return "begins" if event.attempt == 1 else f"begins, attempt {event.attempt}"
        case StepSucceeded():
            return "succeeded"
        case StepFailed():
            return _failure(event.error)
        case StepDefaulted():
            return f"{_failure(event.error)}; its default is taken"
        case StepRetried():
            return f"attempt {event.attempt} {_failure(event.error)}; the next in {event.delay_s:.3f} s"
        case SubRunLinked():
            return f"started run {event.run_id}"
        case StepWaiting():
            return _wait(event.reason)
        case _:
            assert_never(event)


def _of_run(
    event: RunStarted
    | ItemsAdmitted
    | InputsClosed
    | RunClaimed
    | RunReleased
    | RunPaused
    | RunResumed
    | RunEnded
    | Checkpointed,
) -> str:
    match event:
        case RunStarted():
            return f"run of {event.flow_name or event.flow_id}" + (
                f", again for {event.retry_of}" if event.retry_of else ""
            )
        case ItemsAdmitted():
            return f"{len(event.inputs):,} inputs from item {event.first:,} on"
        case InputsClosed():
            return f"{event.count:,} inputs in all"
        case RunClaimed():
            return f"taken over by {event.name or event.owner}: what was under way begins again"
        case RunReleased():
            return "its engine was closed"
        case RunPaused():
            return "paused"
        case RunResumed():
            return "resumed"
        case RunEnded():
            return f"run {event.status.value}" + (f": {_failure(event.error)}" if event.error is not None else "")
        case Checkpointed():
            return f"checkpoint: {event.succeeded:,} succeeded, {event.failed:,} failed"
        case _:
            assert_never(event)


def _step(steps: Sequence[str], index: int) -> str:
    return steps[index] if index < len(steps) else f"#{index}"


def _failure(error: Failed) -> str:
    return f"failed with {error.code.value}: {' '.join(error.message.split())}"
