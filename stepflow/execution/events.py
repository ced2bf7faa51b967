"""The facts of a run, a closed set. A run's state is what its events say, in their order.

On disk an event is a JSON array that begins with its tag; steps are numbered by their place in the flow, and `at` is
in milliseconds since the run started. None of them can be part of a cycle, so the collector need not look at them.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from stepflow.records import BlobId, Failed, Json, Outcome, ParentLink, RunId, RunStatus


class RunStarted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="run"):
    """The first entry of every run. Whatever shapes the execution is here, so that recovery needs nothing else."""

    run_id: RunId
    root_id: RunId
    flow_id: BlobId
    started_at: float  # seconds since the epoch
    flow_name: str | None = None
    variables: dict[str, Any] = {}
    overrides: Any = None
    max_concurrency: int | None = None
    deadline: float | None = None  # seconds since the epoch
    parent: ParentLink | None = None
    key: str | None = None
    validation: str = "strict"  # of inputs and variables: strict, warn or off; sub-runs take it from their parent
    owner: str = ""  # the engine's start that began it
    retry_of: RunId | None = None  # the run whose finished steps this one began with


class ItemsAdmitted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="in"):
    """Inputs came in: those of the items from `first` on."""

    first: int
    inputs: list[Any]


class InputsClosed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="closed"):
    """No more inputs will come."""

    count: int


class StepStarted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="go"):
    """An attempt begins."""

    item: int
    step: int
    attempt: int
    at: int


class StepSucceeded(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="ok"):
    """An attempt gave the step's output."""

    item: int
    step: int
    output: Any
    at: int
    queued: int = 0  # ms until a worker of its queue began; 0: it was in none


class StepFailed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="fail"):
    """The step has failed for good, or its input could not be evaluated."""

    item: int
    step: int
    error: Failed
    at: int
    queued: int = 0  # ms until a worker of its queue began; 0: it was in none


class StepDefaulted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="default"):
    """The step failed, and its `useDefault` gives the output in the failure's stead."""

    item: int
    step: int
    output: Any
    error: Failed
    at: int
    queued: int = 0  # ms until a worker of its queue began; 0: it was in none


class StepRetried(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="again"):
    """An attempt failed and another follows after the delay that was drawn."""

    item: int
    step: int
    attempt: int  # the one that failed
    error: Failed
    delay_s: float
    at: int
    queued: int = 0  # ms until a worker of its queue began; 0: it was in none


class SubRunLinked(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="sub"):
    """The step started a run of its own."""

    item: int
    step: int
    run_id: RunId
    key: str
    at: int


class ItemEnded(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="item"):
    """Every step that the item needs has ended, and this is its result."""

    item: int
    outcome: Outcome
    at: int


class RunClaimed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="claim"):
    """Another engine, or another start of it, took the run over. What was under way is begun again."""

    owner: str
    name: str  # of the engine
    at: int


class RunReleased(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="release"):
    """The engine was closed in an orderly way: what was under way did not end it."""

    at: int


class RunPaused(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="pause"):
    """No more steps begin. Those under way go on, and their outcomes count."""

    at: int


class RunResumed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="resume"):
    """A pause is over."""

    at: int


class StepWaiting(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="wait"):
    """An attempt has waited for a while for something outside the engine, such as a worker of a queue.

    No reason: such a wait, of which was told, is over.
    """

    item: int
    step: int
    reason: str
    at: int


class RunEnded(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="end"):
    """Terminal: nothing follows. Items without a result take `error`."""

    status: RunStatus
    at: int
    error: Failed | None = None


class OpenItemSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """What is known of an item that has begun and not ended."""

    index: int
    outputs: list[tuple[int, bool, Any]]  # (step, succeeded, the output or the failure)
    attempts: list[tuple[int, int]]
    retries: list[tuple[int, int, int]]  # (step, transport, component)
    broken: list[
        tuple[int, int, int]
    ] = []  # (step, starts that ended with their engine, how many of them by its death)
    due: list[tuple[int, int]] = []  # (step, when its next attempt may begin, in milliseconds)


class Checkpointed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="state"):
    """All that the events before this one amount to, but for the inputs of unfinished items."""

    low_water: int  # every item below this one has ended
    ended_above: list[int]
    admitted: int
    total: int | None
    succeeded: int
    failed: int
    open: list[OpenItemSnapshot]
    is_paused: bool = False


Event: TypeAlias = (
    RunStarted
    | ItemsAdmitted
    | InputsClosed
    | StepStarted
    | StepSucceeded
    | StepFailed
    | StepDefaulted
    | StepRetried
    | SubRunLinked
    | ItemEnded
    | RunClaimed
    | RunReleased
    | RunPaused
    | RunResumed
    | StepWaiting
    | RunEnded
    | Checkpointed
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Event])


MAX_DEPTH = 600
"""Levels of nesting up to which a value can be encoded and decoded everywhere: 3.11 has room for 1,000."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


def encode_events(events: Sequence[Event]) -> bytes:
    """The JSON text of an array of events, as a journal keeps it.

    Raises:
        RecursionError: a value is nested so deeply that a store or a later reader may fail at it.
    """
    payload = _encoder.encode(events)
    if _opened(payload) - len(events) > MAX_DEPTH:  # every event opens a bracket of its own
        for event in events:
            text = _encoder.encode(event)
            if _opened(text) > MAX_DEPTH and _is_deeper(text, MAX_DEPTH):
                raise RecursionError(f"a value is nested more than {MAX_DEPTH} levels deep")
    return payload


def _opened(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _is_deeper(text: bytes, levels: int) -> bool:
    """Whether a JSON text is nested more deeply than this: each round takes the innermost brackets away."""
    rest = _STRING.sub(b"", text).translate(None, _NO_BRACKET)
    for _ in range(levels):
        rest = rest.replace(b"[]", b"").replace(b"{}", b"")
        if not rest:
            return False
    return True


def decode_events(payload: bytes) -> list[Event]:
    return _decoder.decode(payload)


def event_to_json(event: Event) -> dict[str, Json]:
    """An event as an object with named fields, for people and other programs; `event` names its kind."""
    body = {name: msgspec.to_builtins(getattr(event, name)) for name in event.__struct_fields__}
    return {"event": type(event).__name__, **body}
