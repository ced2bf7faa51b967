"""What the journal of a run says of its steps, as the protocol tells it."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import anyio.lowlevel

from stepflow.engine import Engine
from stepflow.execution.events import (
    Event,
    ItemEnded,
    ItemsAdmitted,
    RunEnded,
    RunStarted,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    SubRunLinked,
    decode_events,
)
from stepflow.execution.state import RunState
from stepflow.flow.read import flow_from_json
from stepflow.plan.compile import build_plan
from stepflow.plan.model import Plan
from stepflow.plan.overrides import apply_overrides
from stepflow.plan.variables import resolve_variables
from stepflow.records import Failed, Json, RunId, RunRecord, RunStatus
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.services.flows import stored_flow
from stepflow_grpc.wire import CODE, STATUS, UnfitError, timestamp, to_value

MOST_TOLD = 100
"""Items of a run of which a question for the run alone tells all steps."""

_ROWS = 64
"""Of a journal, decoded before others have a turn."""

_TYPES = {
    "run_created": NUMBERS["STATUS_EVENT_TYPE_RUN_CREATED"],
    "step_started": NUMBERS["STATUS_EVENT_TYPE_STEP_STARTED"],
    "step_completed": NUMBERS["STATUS_EVENT_TYPE_STEP_COMPLETED"],
    "step_ready": NUMBERS["STATUS_EVENT_TYPE_STEP_READY"],
    "item_completed": NUMBERS["STATUS_EVENT_TYPE_ITEM_COMPLETED"],
    "run_completed": NUMBERS["STATUS_EVENT_TYPE_RUN_COMPLETED"],
    "sub_run_created": NUMBERS["STATUS_EVENT_TYPE_SUB_RUN_CREATED"],
    "steps_needed": NUMBERS["STATUS_EVENT_TYPE_STEPS_NEEDED"],
}


async def plan_of(engine: Engine, started: RunStarted) -> Plan:
    """The plan that a run follows, overrides applied."""
    flow = flow_from_json(await stored_flow(engine, started.flow_id))
    return build_plan(apply_overrides(flow, started.overrides), id=started.flow_id)


async def item_ends(engine: Engine, record: RunRecord) -> dict[int, float]:
    """When items ended, in seconds since the epoch: those whose end the store's journal still has."""
    ends: dict[int, float] = {}
    began, position = record.created_at, 0
    while rows := await engine.backend.journal.history(record.id, after=position, limit=_ROWS):
        await anyio.lowlevel.checkpoint()
        for row in rows:
            position = row.first + row.count - 1
            for event in decode_events(row.payload):
                if isinstance(event, RunStarted):
                    began = event.started_at
                elif isinstance(event, ItemEnded):
                    ends[event.item] = began + event.at / 1_000
    return ends


def is_small(record: RunRecord) -> bool:
    """Whether what its journal says of every item may be told in one message."""
    return record.total is not None and record.total <= MOST_TOLD


async def step_statuses(engine: Engine, record: RunRecord, *, item: int | None = None) -> list[Any]:
    """A `StepStatus` for each step that began, of one item or of all, by item and step."""
    found: dict[tuple[int, int], Any] = {}
    plan: Plan | None = None
    started: RunStarted | None = None
    position = 0
    while rows := await engine.backend.journal.history(record.id, after=position, item=item):
        for row in rows:
            position = row.first + row.count - 1
            for offset, event in enumerate(decode_events(row.payload)):
                _note(found, event, row.first + offset)
    begin = await engine.backend.journal.read(record.id, limit=1)
    if begin:
        first = decode_events(begin[0].payload)[0]
        started = first if isinstance(first, RunStarted) else None
    if started is None:
        return []
    plan = await plan_of(engine, started)
    return [_finish(found[place], plan, started, place) for place in sorted(found) if item is None or place[0] == item]


def _note(found: dict[tuple[int, int], Any], event: Event, position: int) -> None:
    match event:
        case StepStarted(item, step, _, at):
            status = found.setdefault((item, step), new("StepStatus"))
            status.status = STATUS[RunStatus.RUNNING]
            status.started_at.CopyFrom(timestamp(at / 1_000))
        case StepSucceeded(item, step, output, at) | StepDefaulted(item, step, output, _, at):
            status = found.setdefault((item, step), new("StepStatus"))
            status.status = STATUS[RunStatus.COMPLETED]
            _fill_output(status, output)
            status.completed_at.CopyFrom(timestamp(at / 1_000))
        case StepFailed(item, step, error, at):
            status = found.setdefault((item, step), new("StepStatus"))
            status.status = STATUS[RunStatus.FAILED]
            status.error_message, status.error_code = error.message, CODE[error.code]
            status.completed_at.CopyFrom(timestamp(at / 1_000))
        case StepRetried(item, step):
            status = found.setdefault((item, step), new("StepStatus"))
        case _:
            return
    status.journal_seqno = position


def _fill_output(status: Any, output: Json) -> None:
    """What the protocol can't carry is left out: the status of the other steps is told all the same."""
    try:
        to_value(output, status.output)
    except UnfitError as error:
        status.ClearField("output")
        status.error_message = f"the output can't be told: {error}"


def _result(output: Json) -> Any:
    """None: the protocol can't carry it."""
    try:
        return to_value(output)
    except UnfitError:
        return None


def _finish(status: Any, plan: Plan, started: RunStarted, place: tuple[int, int]) -> Any:
    """Name the step, and turn the times of the journal, which count from the run's start, into times of day."""
    item, step = place
    planned = plan.steps[step]
    status.step_id, status.step_index, status.item_index = planned.id, step, item
    status.component = planned.component
    for name in ("started_at", "completed_at"):
        if status.HasField(name):
            stamp = getattr(status, name)
            stamp.CopyFrom(timestamp(started.started_at + stamp.seconds + stamp.nanos / 1e9))
            status.updated_at.CopyFrom(stamp)
    return status


class EventStream:
    """The events of a run, and if asked for those of its sub-runs, as `StatusEvent`s in the order of its journal.

    Everything that happens in a sub-run has the place of the event that began it.
    """

    def __init__(self, engine: Engine, request: Any) -> None:
        self._engine = engine
        self._since = request.since if request.HasField("since") else 0
        self._types = frozenset(request.event_types)
        self._has_sub_runs = request.include_sub_runs
        self._has_results = request.include_results

    async def of(self, run_id: RunId) -> AsyncGenerator[Any, None]:
        async for event in self._run(run_id, None):
            if event.sequence_number >= self._since and self._is_wanted(event):
                yield event

    def _is_wanted(self, event: Any) -> bool:
        return not self._types or _TYPES[event.WhichOneof("event")] in self._types

    async def _run(self, run_id: RunId, place: int | None) -> AsyncIterator[Any]:
        teller: _Teller | None = None
        position = 0
        async for event in self._engine.events(run_id):
            position += 1
            if isinstance(event, RunStarted):
                total = (await self._engine.get(run_id)).total or 0
                teller = _Teller(event, await plan_of(self._engine, event), total, has_results=self._has_results)
            if teller is None:
                continue
            for told in teller.tell(event, position if place is None else place):
                if isinstance(event, SubRunLinked):
                    await self._describe(event.run_id, told.sub_run_created)
                yield told
            if isinstance(event, SubRunLinked) and self._has_sub_runs:
                async for told in self._run(event.run_id, position if place is None else place):
                    yield told

    async def _describe(self, run_id: RunId, created: Any) -> None:
        record = await self._engine.backend.runs.get(run_id)
        if record is not None:
            created.flow_id, created.item_count = record.flow_id, record.total or 0


class _Teller:
    """Turns the events of one run into the protocol's."""

    def __init__(self, started: RunStarted, plan: Plan, total: int, *, has_results: bool) -> None:
        self._run = started.run_id
        self._started = started
        self._plan = plan
        self._has_results = has_results
        self._total = total
        self._state = RunState(plan, resolve_variables(plan.flow, started.variables, validation="off").values)

    def tell(self, event: Event, position: int) -> list[Any]:
        parts = self._parts(event)
        self._state.ready.clear()
        self._state.apply(event)
        if isinstance(event, StepSucceeded | StepFailed | StepDefaulted):
            parts += [("step_ready", self._step(*place)) for place in self._state.ready if place[0] == event.item]
        return [self._told(position, event, name, fields) for name, fields in parts]

    def _parts(self, event: Event) -> list[tuple[str, Mapping[str, Any]]]:
        match event:
            case RunStarted(flow_id=flow_id):
                return [("run_created", {"flow_id": flow_id, "item_count": self._total})]
            case ItemsAdmitted(first, inputs):
                return [("steps_needed", self._needed(first + offset)) for offset in range(len(inputs))]
            case StepStarted(item, step, attempt):
                return [("step_started", {**self._step(item, step), "attempt": attempt})]
            case StepSucceeded(item, step, output) | StepDefaulted(item, step, output):
                return [("step_completed", self._completed(item, step, RunStatus.COMPLETED, output))]
            case StepFailed(item, step):
                return [("step_completed", self._completed(item, step, RunStatus.FAILED, None))]
            case ItemEnded(item, outcome):
                result = None if isinstance(outcome, Failed) or not self._has_results else _result(outcome.output)
                return [("item_completed", {"item_index": item, "result": result})]
            case SubRunLinked(_, _, run_id):
                return [("sub_run_created", {"run_id": run_id, "parent_run_id": self._run})]
            case RunEnded(status):
                return [("run_completed", {"status": STATUS[status]})]
            case _:
                return []

    def _step(self, item: int, step: int) -> dict[str, Any]:
        return {"item_index": item, "step_index": step, "step_id": self._plan.steps[step].id}

    def _completed(self, item: int, step: int, status: RunStatus, output: Any) -> dict[str, Any]:
        result = _result(output) if self._has_results and status is RunStatus.COMPLETED else None
        return {**self._step(item, step), "status": STATUS[status], "result": result}

    def _needed(self, item: int) -> dict[str, Any]:
        return {"item_index": item, "step_ids": [step.id for step in self._plan.steps]}

    def _told(self, position: int, event: Event, name: str, fields: Mapping[str, Any]) -> Any:
        at = getattr(event, "at", 0)
        message = new("StatusEvent", sequence_number=position)
        message.timestamp.CopyFrom(timestamp(self._started.started_at + at / 1_000))  # type: ignore[attr-defined]
        part = getattr(message, name)
        for key, value in {"run_id": self._run, **fields}.items():
            if value is None:
                continue
            if key == "step_ids":
                part.step_ids.extend(value)
            elif key == "result":
                part.result.CopyFrom(value)
            else:
                setattr(part, key, value)
        part.SetInParent()
        return message
