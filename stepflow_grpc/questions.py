"""What the commands of an operator ask a server, and how it answers: JSON in frames.

Reading is by rows, as a store gives them: what is made of them is worked out by whoever asks, not by the server's loop.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from stepflow.records import BlobId, MessageKind, RunId, RunStatus
from stepflow_grpc.messages import Frame

MOST_ROWS = 64
"""Of a journal, in one answer."""

MOST_RUNS = 1_000
"""Listed or deleted, in one answer."""

_PIECE = 1024 * 1024


class GetRun(msgspec.Struct, frozen=True, tag="run"):
    """→ its record, or null."""

    run_id: RunId


class FindRuns(msgspec.Struct, frozen=True, tag="find"):
    """→ the ids of at most two root runs that begin so."""

    text: str


class ListRuns(msgspec.Struct, frozen=True, tag="list", kw_only=True, omit_defaults=True):
    """→ records, the newest first."""

    status: RunStatus | None = None
    flow_name: str | None = None
    root_id: RunId | None = None
    parent_id: RunId | None = None
    roots_only: bool = False
    limit: int = 100
    before: RunId | None = None


class GetOwnership(msgspec.Struct, frozen=True, tag="ownership"):
    """→ who has a run, or null where there is no such run."""

    run_id: RunId


class ListEngines(msgspec.Struct, frozen=True, tag="engines"):
    """→ those that are alive."""


class ReadJournal(msgspec.Struct, frozen=True, tag="journal", kw_only=True, omit_defaults=True):
    """→ packed rows; empty: there are no more. `whole`: also those that a checkpoint replaced."""

    run_id: RunId
    after: int = 0
    limit: int = MOST_ROWS
    item: int | None = None
    whole: bool = False


class GetBlob(msgspec.Struct, frozen=True, tag="blob"):
    """→ content and its type, or null."""

    blob_id: BlobId


class TellRun(msgspec.Struct, frozen=True, tag="tell"):
    """→ whether there is such a run that has not ended: it is, or will be, what was asked for."""

    run_id: RunId
    kind: MessageKind  # cancel, pause or resume


class RetryRun(msgspec.Struct, frozen=True, tag="retry"):
    """→ the record of the new run, which tries the failed items again."""

    run_id: RunId


class DeleteRun(msgspec.Struct, frozen=True, tag="delete"):
    """→ whether it was there and had ended."""

    run_id: RunId


class PruneRuns(msgspec.Struct, frozen=True, tag="prune", kw_only=True):
    """→ how many were deleted; 0: there are no more."""

    ended_before: float | None = None
    keep: int | None = None
    limit: int = 100


class ListQueues(msgspec.Struct, frozen=True, tag="queues", omit_defaults=True):
    """→ `QueueState`s. `everywhere`: of all servers that share the store."""

    everywhere: bool = False


Question: TypeAlias = (
    GetRun
    | FindRuns
    | ListRuns
    | GetOwnership
    | ListEngines
    | ReadJournal
    | GetBlob
    | TellRun
    | RetryRun
    | DeleteRun
    | PruneRuns
    | ListQueues
)


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """How a queue of one server is now. Of a server that did not say, `queue` is empty, and `remark` says so."""

    queue: str
    server: str = ""  # where it is, as the others know it
    routes: tuple[str, ...] = ()  # that lead to it
    workers: int = 0  # that are connected
    expected: int = 0  # that its pools have
    slots: int = 0
    busy: int = 0  # tasks that workers are at
    waiting: int = 0  # tasks that no worker has
    oldest_s: float = 0.0  # how long the oldest of those has waited
    remark: str = ""  # what is amiss, and what to do


_ENCODE = msgspec.json.Encoder()
_QUESTION: msgspec.json.Decoder[Question] = msgspec.json.Decoder(Question)


def asking(question: Question) -> Frame:
    return Frame(json=_ENCODE.encode(question))


def question_of(message: Frame) -> Question:
    """Raises: msgspec.DecodeError."""
    return _QUESTION.decode(message.json)


def answering(answer: object) -> Iterator[Frame]:
    """The answer in frames that any client takes."""
    text = _ENCODE.encode(answer)
    for start in range(0, len(text), _PIECE):
        yield Frame(json=text[start : start + _PIECE])


def answer_of(frames: Iterable[Frame], type: Any) -> Any:
    """The answer that the frames make up together. Raises: msgspec.DecodeError."""
    return msgspec.json.decode(b"".join(each.json for each in frames), type=type)
