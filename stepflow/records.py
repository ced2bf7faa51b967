"""What crosses a seam: tasks and outcomes, runs and items, blobs and ids."""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
else:
    Json: TypeAlias = Any  # msgspec builds no decoder for a recursive alias

RunId: TypeAlias = str
"""A UUID version 7 as text, so ids sort by the time of submission."""

TaskId: TypeAlias = str
BlobId: TypeAlias = str
"""SHA-256 of the stored bytes, 64 lower-case hexadecimal digits. A flow's id is the id of its canonical text."""


class ErrorCode(StrEnum):
    """Why a step or an item failed. The names are those of the wire protocol."""

    UNSPECIFIED = "UNSPECIFIED"
    TIMEOUT = "TIMEOUT"
    INVALID_INPUT = "INVALID_INPUT"
    COMPONENT_FAILED = "COMPONENT_FAILED"
    CANCELLED = "CANCELLED"
    UNREACHABLE = "UNREACHABLE"
    COMPONENT_NOT_FOUND = "COMPONENT_NOT_FOUND"
    RESOURCE_UNAVAILABLE = "RESOURCE_UNAVAILABLE"
    EXPRESSION_FAILURE = "EXPRESSION_FAILURE"
    ORCHESTRATOR_ERROR = "ORCHESTRATOR_ERROR"
    WORKER_ERROR = "WORKER_ERROR"


TRANSPORT_CODES = frozenset({ErrorCode.TIMEOUT, ErrorCode.UNREACHABLE})
"""Failures of the way to the component: retried without being asked."""

COMPONENT_CODES = frozenset({ErrorCode.COMPONENT_FAILED, ErrorCode.RESOURCE_UNAVAILABLE})
"""Failures of the component itself: retried where the step asks for it."""


class Succeeded(msgspec.Struct, frozen=True, gc=False, tag_field="outcome", tag="success"):
    """The component answered."""

    output: Json


class Failed(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="outcome", tag="failed"):
    """The component answered that it could not. A fact to record, not an error to raise."""

    code: ErrorCode
    message: str
    data: Json = None
    retry_after_s: float | None = None  # set by RetryAfter: the next attempt waits exactly this long
    may_retry: bool = True  # False: no policy may retry it, whatever the code says


Outcome: TypeAlias = Succeeded | Failed


def outcome_to_json(outcome: Outcome) -> dict[str, Json]:
    """The result object of the flow language: `{"outcome": "success", …}` or `{"outcome": "failed", …}`."""
    if isinstance(outcome, Succeeded):
        return {"outcome": "success", "result": outcome.output}
    error: dict[str, Json] = {"code": outcome.code.value, "message": outcome.message}
    if outcome.data is not None:
        error["data"] = outcome.data
    return {"outcome": "failed", "error": error}


class Task(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step's work, on its way to a plugin."""

    run_id: RunId
    root_run_id: RunId
    flow_id: BlobId
    item: int
    step: int
    step_id: str
    component: str  # the path as the flow writes it
    target: str  # what the route handed on: the component's id, or its path below the prefix
    input: Json  # shared: copied before user code may change it
    attempt: int = 1  # counts every dispatch of this step, from 1
    was_cut_off: bool = False  # the attempt before was given out by an engine that is gone: who has it may still answer
    path_params: Mapping[str, str] = {}
    params: Mapping[str, Json] = {}  # of the route, such as queueName
    timeout_s: float | None = None
    deadline: float | None = None  # of the run, in seconds since the epoch

    @property
    def id(self) -> TaskId:
        """The same on every attempt, so a late answer still finds its step."""
        return task_id(self.run_id, self.item, self.step)


def task_id(run_id: RunId, item: int, step: int) -> TaskId:
    """A UUID version 5 in the name space of the run."""
    digest = _name_space(run_id).copy()
    digest.update(b"%d/%d" % (item, step))
    text = digest.hexdigest()
    variant = _VARIANTS[text[16]]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # RFC 9562, section 4.1


@lru_cache(maxsize=1_024)
def _name_space(run_id: RunId) -> "hashlib._Hash":
    return hashlib.sha1(UUID(run_id).bytes, usedforsecurity=False)


class ComponentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin or a worker says of one of its components."""

    id: str
    path: str = ""  # mount pattern below the route's prefix, such as /f or /core/{*rest}; empty: /<id>
    description: str | None = None
    input_schema: Json = None
    output_schema: Json = None
    is_alias: bool = False  # another path of a component that is listed before: it can be called, lists leave it out


class RunStatus(StrEnum):
    """How far a run is. The names are those of the wire protocol."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RECOVERY_FAILED = "recoveryFailed"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self not in (RunStatus.RUNNING, RunStatus.PAUSED)


DEFAULT_GROUP = "default"

JOURNAL_FORMAT = 1
"""Of the events that this version writes. An engine leaves runs of a later one alone."""


class ParentLink(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sub-run was started from. The key makes a repeated submission find it again."""

    run_id: RunId
    item: int
    step: int
    key: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a store lists it. Counts are of items; times are seconds since the epoch."""

    id: RunId
    root_id: RunId
    flow_id: BlobId
    flow_name: str | None = None
    status: RunStatus = RunStatus.RUNNING
    parent: ParentLink | None = None
    key: str | None = None
    created_at: float = 0.0
    ended_at: float | None = None
    total: int | None = None  # None while the inputs are still streaming in
    succeeded: int = 0
    failed: int = 0
    error: Failed | None = None  # why the whole run ended before its items did
    group: str = DEFAULT_GROUP  # engines take over only runs of their own group
    journal_format: int = JOURNAL_FORMAT  # and of formats that they can read
    retry_of: RunId | None = None  # the run whose failed items this one tries again
    is_sealed: bool = False  # its events and results hold secrets as references (see stepflow.execution.sealing)
    claims: int = 0  # how often it was taken over since its owner last wrote to it; the store counts

    @property
    def cancelled(self) -> int:
        """How many items the cancelling of the run came before; 0 of a run that was not cancelled."""
        if self.status is not RunStatus.CANCELLED or self.total is None:
            return 0
        return self.total - self.succeeded - self.failed


class ItemResult(msgspec.Struct, frozen=True, gc=False):
    """What became of one input."""

    index: int
    outcome: Outcome

    @property
    def ok(self) -> bool:
        """Whether the flow gave an output for this input."""
        return isinstance(self.outcome, Succeeded)

    @property
    def output(self) -> Json:
        """The flow's output for this item; None when it failed."""
        return self.outcome.output if isinstance(self.outcome, Succeeded) else None

    @property
    def error(self) -> Failed | None:
        """Why there is no output; None when there is."""
        return self.outcome if isinstance(self.outcome, Failed) else None


class BlobType(StrEnum):
    """What the bytes of a blob are. Flows and data are JSON."""

    FLOW = "flow"
    DATA = "data"
    BINARY = "binary"


class Blob(msgspec.Struct, frozen=True):
    """Content, and the id that it has by itself."""

    id: BlobId
    content: bytes
    type: BlobType = BlobType.DATA
    filename: str | None = None


def blob_id(content: bytes) -> BlobId:
    return hashlib.sha256(content).hexdigest()


class Lease(msgspec.Struct, frozen=True):
    """The right to write to a run. A store refuses an epoch other than the newest it gave out."""

    owner: str
    epoch: int


class RunChange(msgspec.Struct, frozen=True, kw_only=True):
    """New values of a run's row. None leaves a column as it is; counts are absolute, so repeating is harmless."""

    status: RunStatus | None = None
    ended_at: float | None = None
    total: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    error: Failed | None = None


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One run's part of a commit: packed journal entries, item results and changes of the run's row.

    `first` is the position of the first entry, counted from 1 and given by the writer, so that repeating a write
    whose answer was lost changes nothing. `payload` is the JSON text of an array of `count` entries.
    """

    run_id: RunId
    lease: Lease
    first: int
    count: int
    payload: bytes
    min_item: int = -1  # the items that the entries speak of; -1: none
    max_item: int = -1
    is_checkpoint: bool = False  # replaces all before it but the first row and rows with inputs of items >= min_item
    has_inputs: bool = False  # admits the items min_item … max_item: needed until all of them have ended
    results: Sequence[ItemResult] = ()
    new: RunRecord | None = None  # set in a run's first write
    supersedes: RunId | None = None  # of a first write with a key: the run that had the key when the writer looked
    change: RunChange | None = None


class Committed(msgspec.Struct, frozen=True):
    """The write is durable."""


class LeaseLost(msgspec.Struct, frozen=True):
    """The write was refused: somebody else owns the run now. Nothing of it was stored."""

    current: int  # the epoch that replaced the writer's


class KeyTaken(msgspec.Struct, frozen=True):
    """The first write of a run was refused: another run has its key by now. Nothing of it was stored."""

    run_id: RunId


Verdict: TypeAlias = Committed | LeaseLost | KeyTaken


class Entries(msgspec.Struct, frozen=True):
    """Packed journal entries as they were written: `count` of them from position `first` on."""

    first: int
    count: int
    payload: bytes


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One start of an engine. Its leases name it by `owner`, which no other start ever has."""

    owner: str
    name: str  # of the engine: given by the operator and equal on every start, else that of this start
    group: str = DEFAULT_GROUP
    url: str | None = None  # where the engine can be reached
    place: str = ""  # host and process, for people
    started_at: float = 0.0
    expires_at: float | None = None  # by the store's clock; None: alive as long as the store says nothing else


class Ownership(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a run. `engine` is None when its owner is gone: anybody may take the run over."""

    owner: str
    epoch: int
    engine: EngineRecord | None
    expires_in_s: float | None = None  # until the owner counts as dead unless it is heard of; None: no such limit
    unanswered_since: float | None = None  # when the owner asked its store for what it waits for yet, if it says so


class MessageKind(StrEnum):
    """What may be asked of the owner of a run."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    ANSWER = "answer"  # this came of a task of the run


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Something for the owner of a run, whoever that is when it is read."""

    id: str  # of the sender's choosing: sending it again changes nothing
    run_id: RunId
    kind: str  # a MessageKind, or one that another package and its engines agree on
    payload: bytes = b""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A task that its engine finds nobody for, offered to the others."""

    task_id: TaskId
    attempt: int
    run_id: RunId
    queue: str
    body: bytes  # the task, as the engines agree on


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an offered task."""

    task_id: TaskId
    attempt: int
    run_id: RunId
    body: bytes
