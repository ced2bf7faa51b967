"""Trying the failed items of a run again: a new run that begins with whatever the former one finished."""

from collections.abc import AsyncGenerator

import msgspec

from stepflow.errors import RunActiveError, StoreError
from stepflow.execution.events import (
    Event,
    InputsClosed,
    ItemEnded,
    ItemsAdmitted,
    RunStarted,
    StepDefaulted,
    StepSucceeded,
    decode_events,
)
from stepflow.execution.live import LiveRun
from stepflow.execution.options import SubmitOptions
from stepflow.execution.references import Opening
from stepflow.flow.model import Flow
from stepflow.flow.read import flow_from_json
from stepflow.protocols import Backend
from stepflow.records import ItemResult, RunId, RunRecord


class Finished(msgspec.Struct):
    """What a run has come to that can be kept."""

    flow: Flow
    started: RunStarted
    total: int
    inputs: list[ItemsAdmitted]
    succeeded: list[ItemResult]
    steps: list[StepSucceeded | StepDefaulted]  # of items that did not succeed


async def finished_part(backend: Backend, record: RunRecord, opening: Opening | None) -> Finished:
    """Read what a run has finished.

    Raises:
        SecretKeyError: its secrets can't be had here.
        RunActiveError: it has not ended.
        StoreError: its inputs are not kept any more.
    """
    if not record.status.is_terminal:
        raise RunActiveError(record.id, "only what has ended can be tried again")
    succeeded = [result async for result in _results(backend, record.id, opening) if result.ok]
    done = {result.index for result in succeeded}
    finished: Finished | None = None
    async for event in _events(backend, record.id, opening):
        if isinstance(event, RunStarted):
            finished = Finished(await _flow(backend, event), event, 0, [], succeeded, [])
        elif finished is None:
            break
        elif isinstance(event, ItemsAdmitted):
            finished.inputs.append(event)
            finished.total = event.first + len(event.inputs)
        elif isinstance(event, (StepSucceeded, StepDefaulted)) and event.item not in done:
            finished.steps.append(event)
    if finished is None or sum(len(chunk.inputs) for chunk in finished.inputs) != finished.total:
        raise StoreError(f"run {record.id}: not all of its inputs are kept; submit them again")
    return finished if opening is None else opening.complete(finished)


def begin_again(run: LiveRun, former: Finished) -> None:
    """Let a run begin where a former one came to: what succeeded there is not done again."""
    run.apply(run.started)
    for chunk in former.inputs:
        run.apply(chunk)
    for result in former.succeeded:
        run.apply_end(ItemEnded(result.index, result.outcome, 0))
    for step in former.steps:
        if run.state.may_finish(step.item, step.step):  # what was only needed because another failed may not be
            run.apply_item(msgspec.structs.replace(step, at=0), step.item)
    run.state.ready = [place for place in run.state.ready if run.state.may_finish(*place)]
    run.apply(InputsClosed(former.total))


def again_options(started: RunStarted) -> SubmitOptions:
    """What was said of the former run, as far as it holds for the new one: not its key."""
    deadline_s = None if started.deadline is None else started.deadline - started.started_at
    return {
        "max_concurrency": started.max_concurrency,
        "deadline_s": deadline_s,
        "validation": started.validation,
    }


async def _events(backend: Backend, run_id: RunId, opening: Opening | None) -> AsyncGenerator[Event, None]:
    position = 0
    while rows := await backend.journal.history(run_id, after=position):
        for row in rows:
            position = row.first + row.count - 1
            for event in decode_events(row.payload) if opening is None else opening.decode(row.payload):
                yield event


async def _results(backend: Backend, run_id: RunId, opening: Opening | None) -> AsyncGenerator[ItemResult, None]:
    after = -1
    while page := await backend.runs.results(run_id, after=after):
        for result in page:
            after = result.index
            yield result if opening is None else opening.result(result)


async def _flow(backend: Backend, started: RunStarted) -> Flow:
    blob = await backend.blobs.get(started.flow_id)
    if blob is None:
        raise StoreError(f"run {started.run_id}: its flow {started.flow_id} is not stored any more")
    return flow_from_json(msgspec.json.decode(blob.content))
