"""Records of the core as messages of the protocol, and back. Pure.

On the wire every number is a double. Coming in, a finite number without a fraction becomes an integer, as the reference
server reads it; keys of objects are sorted, so that equal values have equal text and with it equal ids.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import msgspec

from stepflow.records import (
    ComponentInfo,
    ErrorCode,
    Failed,
    ItemResult,
    Json,
    Outcome,
    RunRecord,
    RunStatus,
    Succeeded,
    Task,
    TaskId,
)
from stepflow_grpc.messages import MESSAGES, NUMBERS, Struct, Timestamp, Value, new

_EXACT = 2.0**63

DEEPEST = 97
"""Of 100 messages inside one another, the most that readers take, those below a value: at most two are above it."""

STATUS = {
    RunStatus.RUNNING: NUMBERS["EXECUTION_STATUS_RUNNING"],
    RunStatus.COMPLETED: NUMBERS["EXECUTION_STATUS_COMPLETED"],
    RunStatus.FAILED: NUMBERS["EXECUTION_STATUS_FAILED"],
    RunStatus.CANCELLED: NUMBERS["EXECUTION_STATUS_CANCELLED"],
    RunStatus.PAUSED: NUMBERS["EXECUTION_STATUS_PAUSED"],
    RunStatus.RECOVERY_FAILED: NUMBERS["EXECUTION_STATUS_RECOVERY_FAILED"],
}
STATUS_OF = {number: status for status, number in STATUS.items()}
CODE = {code: NUMBERS[f"TASK_ERROR_CODE_{code.value}"] for code in ErrorCode}
CODE_OF = {number: code for code, number in CODE.items()}


class UnfitError(ValueError):
    """A value of JSON that the protocol's messages can't carry."""


def to_value(json: Json, into: Any = None, left: int = DEEPEST) -> Any:
    """A JSON value as `google.protobuf.Value`.

    Args:
        into: the message to fill; None: a new one.
        left: how many messages may be inside one another below this one.

    Raises:
        UnfitError: it is nested too deeply, or has a number that is no double.
    """
    value = Value() if into is None else into
    if json is None:
        value.null_value = 0
    elif json is True or json is False:
        value.bool_value = json
    elif isinstance(json, str):
        value.string_value = json
    elif isinstance(json, int | float):
        try:
            value.number_value = json
        except OverflowError:
            raise UnfitError("a whole number is too large for the protocol, whose numbers are doubles") from None
    elif isinstance(json, dict):
        fill_struct(json, value.struct_value, left - 1)
    else:
        value.list_value.SetInParent()
        values = value.list_value.values
        below = _below(left)
        for item in json:
            to_value(item, values.add(), below)
    return value


def fill_struct(json: Mapping[str, Json], struct: Any, left: int = DEEPEST) -> Any:
    """Raises: UnfitError."""
    struct.SetInParent()
    fields = struct.fields
    below = _below(left) if json else left
    for key, item in json.items():
        to_value(item, fields[key], below)
    return struct


def _below(left: int) -> int:
    """What is left for the values in a list or in an object."""
    if left < 2:
        raise UnfitError(f"it is nested too deeply for the protocol, which carries about {DEEPEST // 3} objects in one")
    return left - 2


def to_struct(json: Mapping[str, Json]) -> Any:
    """A JSON object as `google.protobuf.Struct`."""
    return fill_struct(json, Struct())


def from_value(value: Any) -> Json:
    """The JSON of a `google.protobuf.Value`; of one that is not set, null."""
    match value.WhichOneof("kind"):
        case "string_value":
            text: str = value.string_value
            return text
        case "number_value":
            return _number(value.number_value)
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [from_value(item) for item in value.list_value.values]
        case "bool_value":
            return bool(value.bool_value)
        case _:
            return None


def from_struct(struct: Any) -> dict[str, Json]:
    """The JSON object of a `google.protobuf.Struct`, its keys in the order of their bytes."""
    fields = struct.fields
    return {key: from_value(fields[key]) for key in sorted(fields)}


def _number(number: float) -> Json:
    if not isfinite(number):
        return None
    return int(number) if number.is_integer() and -_EXACT <= number < _EXACT else number


def timestamp(seconds: float) -> Any:
    """Seconds since the epoch as `google.protobuf.Timestamp`."""
    whole = int(seconds // 1)
    return Timestamp(seconds=whole, nanos=round((seconds - whole) * 1e6) * 1_000)


def from_timestamp(stamp: Any) -> float:
    seconds: float = stamp.seconds + stamp.nanos / 1e9
    return seconds


def shown_time(stamp: Any) -> str:
    """RFC 3339, for people."""
    return datetime.fromtimestamp(from_timestamp(stamp), UTC).isoformat()


# Tasks


def assignment(
    task: Task, *, url: str, trace_id: str, span_id: str, heartbeat_s: int = 1, task_id: str | None = None
) -> Any:
    """A task on its way to a worker, which calls back at `url` (host:port)."""
    message: Any = new("TaskAssignment", task_id=task_id or task.id, heartbeat_interval_secs=heartbeat_s)
    execute = message.execute
    execute.component_id = task.target
    to_value(task.input, execute.input)
    execute.attempt = task.attempt
    execute.path_params.update(task.path_params)
    seen = execute.observability
    seen.trace_id, seen.span_id = trace_id, span_id
    seen.run_id, seen.flow_id, seen.step_id = task.run_id, task.flow_id, task.step_id
    _set_context(message, url, task.root_run_id)
    return message


def discovery(task_id: str, *, url: str) -> Any:
    """The question which components a worker has."""
    message: Any = new("TaskAssignment", task_id=task_id)
    message.list_components.SetInParent()
    _set_context(message, url, "")
    return message


def _set_context(message: Any, url: str, root_run_id: str) -> None:
    message.context.orchestrator_service_url = url
    message.context.root_run_id = root_run_id


_TASK_ID = b"\x0a"
"""The first field, a text: programs write fields in the order of their numbers."""


def task_id_in(head: bytes) -> TaskId:
    """The task of a `CompleteTaskRequest` of which only the first bytes are here; empty: they don't say it."""
    if len(head) < 2 or head[:1] != _TASK_ID or len(head) < 2 + head[1] or head[1] > 127:
        return ""
    return head[2 : 2 + head[1]].decode("utf-8", "replace")


def outcome_of(request: Any) -> Outcome | None:
    """What a `CompleteTaskRequest` says; None: nothing, or a response without an output.

    A list of components as the answer to a step is its output, as with the reference server.
    """
    match request.WhichOneof("result"):
        case "response":
            return Succeeded(from_value(request.response.output)) if request.response.HasField("output") else None
        case "error":
            return failed_of(request.error)
        case "list_components":
            return Succeeded(msgspec.to_builtins(components_of(request.list_components)))
        case _:
            return None


def failed_of(error: Any) -> Failed:
    """A worker's error; a code that nobody knows counts as the worker's own."""
    code = CODE_OF.get(error.code, ErrorCode.WORKER_ERROR)
    return Failed(code, error.message, data=from_struct(error.data) if error.HasField("data") else None)


def complete(task_id: str, run_id: str, outcome: Outcome) -> Any:
    """The answer to a task, as a worker sends it."""
    request: Any = new("CompleteTaskRequest", task_id=task_id, run_id=run_id)
    if isinstance(outcome, Succeeded):
        try:
            to_value(outcome.output, request.response.output)
        except UnfitError as error:
            remedy = "put it into a blob, and give its id"
            outcome = Failed(ErrorCode.COMPONENT_FAILED, f"the output can't be sent: {error}; {remedy}")
    if isinstance(outcome, Failed):
        fill_error(outcome, request.error)
    return request


def fill_error(failed: Failed, error: Any) -> None:
    error.code = CODE[failed.code] or CODE[ErrorCode.WORKER_ERROR]
    error.message = failed.message
    if isinstance(failed.data, dict):
        try:
            fill_struct(failed.data, error.data)
        except UnfitError:
            error.ClearField("data")  # the code and the message say what matters


# Components


def component_message(info: ComponentInfo) -> Any:
    """A component as a worker lists it: schemas are JSON text."""
    message: Any = new("ComponentInfo", component_id=info.id, path=info.path or f"/{info.id}")
    message.description = info.description or ""
    for name in ("input_schema", "output_schema"):
        schema = getattr(info, name)
        if schema is not None:
            setattr(message, name, msgspec.json.encode(schema).decode())
    return message


def components_of(result: Any) -> list[ComponentInfo]:
    """What a worker's list says. A schema that is no JSON is left out."""
    return [
        ComponentInfo(
            id=each.component_id,
            path=each.path,
            description=each.description or None,
            input_schema=_schema(each.input_schema),
            output_schema=_schema(each.output_schema),
        )
        for each in result.components
    ]


def _schema(text: str) -> Json:
    try:
        found: Json = msgspec.json.decode(text) if text else None
    except (msgspec.DecodeError, RecursionError):
        return None
    return found


# Runs


def statistics(record: RunRecord) -> Any:
    """How many items of a run are where. One whose inputs still come in counts those that have ended."""
    ended = record.succeeded + record.failed + record.cancelled
    total = ended if record.total is None else record.total
    return new(
        "ItemStatistics",
        total=total,
        completed=record.succeeded,
        running=max(0, total - ended),
        failed=record.failed,
        cancelled=record.cancelled,
    )


def fill_run(record: RunRecord, message: Any) -> Any:
    """What `RunSummary` and `OrchestratorRunStatus` have in common."""
    message.run_id, message.flow_id, message.root_run_id = record.id, record.flow_id, record.root_id
    message.status = STATUS[record.status]
    message.items.CopyFrom(statistics(record))
    message.created_at.CopyFrom(timestamp(record.created_at))
    message.created_at_seqno = 1  # a run's journal begins with its start
    if record.flow_name is not None:
        message.flow_name = record.flow_name
    if record.parent is not None:
        message.parent_run_id = record.parent.run_id
    if record.ended_at is not None:
        message.completed_at.CopyFrom(timestamp(record.ended_at))
    return message


def summary(record: RunRecord, *, orchestrator_id: str | None = None) -> Any:
    """A run as `RunSummary`."""
    message = fill_run(record, new("RunSummary"))
    if orchestrator_id is not None:
        message.orchestrator_id = orchestrator_id
    return message


def item_message(index: int, outcome: Outcome | None, into: Any = None) -> Any:
    """An item's result as `ItemResult`; an outcome of None: it is still running."""
    message = MESSAGES["ItemResult"]() if into is None else into
    message.item_index = index
    if outcome is None:
        message.status = STATUS[RunStatus.RUNNING]
    elif isinstance(outcome, Succeeded):
        message.status = STATUS[RunStatus.COMPLETED]
        to_value(outcome.output, message.output)
    else:
        is_cancelled = outcome.code is ErrorCode.CANCELLED
        message.status = STATUS[RunStatus.CANCELLED if is_cancelled else RunStatus.FAILED]
        message.error_message = outcome.message
        message.error_code = CODE[outcome.code]
    return message


def item_of(message: Any) -> ItemResult:
    """The result that an `ItemResult` of an item that has ended says."""
    if message.status == STATUS[RunStatus.COMPLETED]:
        return ItemResult(message.item_index, Succeeded(from_value(message.output)))
    code = CODE_OF.get(message.error_code, ErrorCode.WORKER_ERROR)
    return ItemResult(message.item_index, Failed(code, message.error_message))


def record_of(message: Any) -> RunRecord:
    """The run that a `RunSummary` or an `OrchestratorRunStatus` tells of, as far as it does."""
    items = message.items
    return RunRecord(
        id=message.run_id,
        root_id=message.root_run_id or message.run_id,
        flow_id=message.flow_id,
        flow_name=message.flow_name if message.HasField("flow_name") else None,
        status=STATUS_OF.get(message.status, RunStatus.RUNNING),
        created_at=from_timestamp(message.created_at),
        ended_at=from_timestamp(message.completed_at) if message.HasField("completed_at") else None,
        total=items.total,
        succeeded=items.completed,
        failed=items.failed,
    )


def fill_results(results: Sequence[ItemResult], total: int, into: Any) -> None:
    """Results in item order, with a placeholder for each item that has none yet."""
    known = {result.index: result.outcome for result in results}
    for index in range(total):
        item_message(index, known.get(index), into.add())
