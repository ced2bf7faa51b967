"""What our worker and our server say to each other on the fast path: JSON objects, one a frame.

A worker may be sent as many tasks as it has granted credit for. A task counts as delivered when it is sent, and as
claimed once the worker says that it began, or answers. An answer stays with the worker until the server has said that
it is recorded; over another connection, to this engine or to the next owner of the run, it is said again.
"""

from collections.abc import Sequence

import msgspec

from stepflow.records import ComponentInfo, Json, Outcome, Task, TaskId
from stepflow_grpc.messages import Frame
from stepflow_grpc.queues.records import WorkerReport

VERSION = 1


class Hello(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The worker's first frame: who it is and what it has."""

    version: int = VERSION
    worker_id: str
    queue: str
    components: Sequence[ComponentInfo] = ()
    has: Sequence[TaskId] = ()  # tasks it is at work on, or whose answers it keeps
    report: WorkerReport | None = None


class Welcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The server's first frame."""

    version: int = VERSION
    url: str  # where calls about tasks go: host:port
    engine: str = ""  # which one this is: a worker that meets the same one twice keeps one connection


class Given(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A task on its way to a worker; its target is the component's id."""

    id: TaskId
    task: Task


class Begun(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A worker is at work on a task. Left out where the answer follows within the moment."""

    id: TaskId
    attempt: int


class Progress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far a component says that its task is. A task that has progress has begun."""

    id: TaskId
    attempt: int
    value: Json


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of a task."""

    id: TaskId
    attempt: int
    run_id: str
    item: int
    step: int
    outcome: Outcome


class Gone(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Nobody wants this attempt any more: the worker stops it, and owes no answer."""

    id: TaskId
    attempt: int


class Receipt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The worker may forget what it answers to this attempt, and to those before it."""

    id: TaskId
    attempt: int


class FromWorker(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    hello: Hello | None = None
    credit: int = 0  # so many more tasks may be sent; a negative number takes credit back
    begun: Sequence[Begun] = ()
    progress: Sequence[Progress] = ()
    answers: Sequence[Reply] = ()
    declined: Sequence[TaskId] = ()  # sent, and not begun for want of a slot: somebody else may have them at once
    components: Sequence[ComponentInfo] | None = None  # a new list
    is_draining: bool = False  # it takes nothing more
    has: Sequence[TaskId] | None = None  # as in `Hello`, said again when another connection of the worker was lost


class FromServer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    welcome: Welcome | None = None
    tasks: Sequence[Given] = ()
    gone: Sequence[Gone] = ()
    recorded: Sequence[TaskId | Receipt] = ()  # receipts; of first attempts, which most are, just the id
    heard: int = 0  # of the worker's frames with answers, so many more: it keeps two of them on the way
    again: Sequence[TaskId] = ()  # their runs are on the way to another engine: say these answers again in a second


class Beat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker lives, says a process beside it."""

    worker_id: str
    report: WorkerReport | None = None
    held_up_s: float = 0.0  # how long its event loop has had no turn; 0: it runs
    stack: str | None = None  # of the thread that holds a worker up, or of all where that is not known
    begun: Sequence[Begun] = ()  # tasks that it may have had no turn to say this of


class BeatAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    is_known: bool = False  # the worker is connected here, or has a task of this engine


_ENCODE = msgspec.json.Encoder()
_FROM_WORKER = msgspec.json.Decoder(FromWorker)
_FROM_SERVER = msgspec.json.Decoder(FromServer)


def receipt(task_id: TaskId, attempt: int) -> TaskId | Receipt:
    return task_id if attempt == 1 else Receipt(task_id, attempt)


def receipted(told: TaskId | Receipt) -> tuple[TaskId, int]:
    """Which task and attempt a receipt names."""
    return (told, 1) if isinstance(told, str) else (told.id, told.attempt)


def frame(content: msgspec.Struct) -> Frame:
    """The content as a message."""
    return Frame(json=_ENCODE.encode(content))


def from_worker(message: Frame) -> FromWorker:
    """Raises: msgspec.DecodeError."""
    return _FROM_WORKER.decode(message.json)


def from_server(message: Frame) -> FromServer:
    """Raises: msgspec.DecodeError."""
    return _FROM_SERVER.decode(message.json)
