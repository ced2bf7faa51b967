"""What a server tells beyond the records of the core: its health, stored flows, steps and events of runs."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from stepflow.errors import Problem
from stepflow.plan.variables import VariableInfo
from stepflow.records import BlobId, ErrorCode, Failed, Json, RunId, RunStatus
from stepflow_grpc.batches import FEATURE
from stepflow_grpc.channel import LONGEST_MESSAGE
from stepflow_grpc.messages import NUMBERS
from stepflow_grpc.wire import CODE_OF, STATUS_OF, from_struct, from_timestamp, from_value

LONGEST_OF_REFERENCE = 4 * 1024 * 1024
_LEVELS = {NUMBERS[f"DIAGNOSTIC_LEVEL_{level.upper()}"]: level for level in ("fatal", "error", "warning")}


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself."""

    status: str
    version: str
    features: tuple[str, ...] = ()

    @property
    def takes_batches(self) -> bool:
        """Whether it has what the reference's servers have not: batches of any length, keys of runs, large messages."""
        return FEATURE in self.features

    @property
    def longest_message(self) -> int:
        """Bytes of one message that it takes."""
        return LONGEST_MESSAGE if self.takes_batches else LONGEST_OF_REFERENCE

    @property
    def is_healthy(self) -> bool:
        return self.status == "healthy"


class StoredFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A flow's id at a server, and what the server found doubtful in it."""

    id: BlobId
    is_stored: bool = True
    diagnostics: tuple[Problem, ...] = ()


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A step of one item, as far as it has come. Times are seconds since the epoch."""

    id: str
    step: int  # its place in the flow
    item: int
    status: RunStatus | None = None  # None: it has not begun
    component: str | None = None
    output: Json = None
    error: Failed | None = None
    started_at: float | None = None
    ended_at: float | None = None


class EventKind(StrEnum):
    """What happened in a run. The names are those of the protocol."""

    RUN_CREATED = "run_created"
    STEPS_NEEDED = "steps_needed"
    STEP_READY = "step_ready"
    STEP_STARTED = "step_started"
    STEP_COMPLETED = "step_completed"
    ITEM_COMPLETED = "item_completed"
    SUB_RUN_CREATED = "sub_run_created"
    RUN_COMPLETED = "run_completed"


class RunEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened in a run. What a kind of event does not have is None."""

    kind: EventKind
    position: int  # in the journal; several events may share one
    at: float  # seconds since the epoch
    run_id: RunId
    item: int | None = None
    step: int | None = None  # its place in the flow
    step_id: str | None = None
    attempt: int | None = None
    status: RunStatus | None = None
    result: Json = None
    has_result: bool = False
    parent_id: RunId | None = None


def stored_flow_of(response: Any) -> StoredFlow:
    found = tuple(_problem(each) for each in response.diagnostics.diagnostics)
    return StoredFlow(id=response.flow_id, is_stored=response.stored, diagnostics=found)


def _problem(found: Any) -> Problem:
    level = _LEVELS.get(found.level, "error")
    return Problem(message=found.formatted, path=found.path or "$", code=found.code or None, level=level)


def variables_of(response: Any) -> tuple[VariableInfo, ...]:
    return tuple(_variable(name, response.variables[name]) for name in sorted(response.variables))


def _variable(name: str, told: Any) -> VariableInfo:
    has_default = told.HasField("default_value")
    return VariableInfo(
        name=name,
        schema=from_struct(told.schema) if told.HasField("schema") else None,
        default=from_value(told.default_value) if has_default else None,
        has_default=has_default,
        required=told.required,
        env_var=told.env_var or None,
        description=told.description or None,
    )


def step_of(told: Any) -> StepRecord:
    return StepRecord(
        id=told.step_id,
        step=told.step_index,
        item=told.item_index,
        status=STATUS_OF.get(told.status),
        component=told.component or None,
        output=from_value(told.output) if told.HasField("output") else None,
        error=_failed(told),
        started_at=from_timestamp(told.started_at) if told.HasField("started_at") else None,
        ended_at=from_timestamp(told.completed_at) if told.HasField("completed_at") else None,
    )


def _failed(told: Any) -> Failed | None:
    if not told.HasField("error_message") and not told.HasField("error_code"):
        return None
    return Failed(CODE_OF.get(told.error_code, ErrorCode.WORKER_ERROR), told.error_message)


_FIELDS: Mapping[str, str] = {
    "item": "item_index",
    "step": "step_index",
    "step_id": "step_id",
    "attempt": "attempt",
    "parent_id": "parent_run_id",
}


def event_of(told: Any) -> RunEvent | None:
    """The event of a `StatusEvent`; None of a kind that this version does not know."""
    name = told.WhichOneof("event")
    if name not in {kind.value for kind in EventKind}:
        return None
    part = getattr(told, name)
    known = part.DESCRIPTOR.fields_by_name
    fields: dict[str, Any] = {ours: getattr(part, theirs) for ours, theirs in _FIELDS.items() if theirs in known}
    if "status" in known:
        fields["status"] = STATUS_OF.get(part.status)
    if "result" in known and part.HasField("result"):
        fields["result"], fields["has_result"] = from_value(part.result), True
    return RunEvent(
        kind=EventKind(name),
        position=told.sequence_number,
        at=from_timestamp(told.timestamp),
        run_id=part.run_id,
        **fields,
    )
