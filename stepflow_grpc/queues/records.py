"""What goes into a queue and what comes out of it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum, StrEnum
from math import ceil
from typing import Protocol, TypeAlias

import msgspec

from stepflow.records import Json, Outcome, Task, TaskId


class WorkerKind(StrEnum):
    """How a worker behaves."""

    UPSTREAM = "upstream"  # claims and beats for each task by itself, and says nothing of what it could take
    OURS = "ours"  # beats as a whole, and grants credit


class QueueLimits(msgspec.Struct, frozen=True, kw_only=True):
    max_length: int = 100_000  # of tasks that nobody has claimed: beyond it submitters are refused


class QueuedTask(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A task on its way through a queue."""

    id: TaskId  # of the task, which computes it anew each time
    task: Task
    queue: str
    queue_timeout_s: float | None = None  # until it is claimed; None: it waits
    execution_timeout_s: float | None = None  # from the claim
    report: Callable[[Task, Json], None] | None = None  # told how far the task is
    note_queued: Callable[[Task, float], None] | None = None  # told how long it was queued, before its outcome
    is_own: bool = True  # False: of another engine, which asks others where no worker here can do it


class Withdrawn(msgspec.Struct, frozen=True):
    """Nobody wants this attempt any more: the worker may stop it."""

    task_id: TaskId
    attempt: int


class Discovery(msgspec.Struct, frozen=True):
    """The question which components a worker has. It needs no claim, and its answer goes to who asked."""

    id: str


Pulled: TypeAlias = QueuedTask | Withdrawn | Discovery


class Heard(Enum):
    """What a worker that speaks of a task is told."""

    IN_PROGRESS = "in progress"
    ALREADY_CLAIMED = "already claimed"  # by another worker, or for another: do not go on
    UNKNOWN = "unknown"  # nobody waits for it here


class Taken(Enum):
    """What came of a worker's answer."""

    ACCEPTED = "accepted"  # the task's outcome
    STALE = "stale"  # a failure of an earlier attempt, which changes nothing: the worker may forget it
    UNKNOWN = "unknown"  # nobody waits for it here


class Answer(Protocol):
    """What a worker says came of an attempt."""

    @property
    def id(self) -> TaskId: ...

    @property
    def attempt(self) -> int: ...

    @property
    def outcome(self) -> Outcome: ...


class QueueFull(msgspec.Struct, frozen=True):
    """A queue is too long to let more in: RESOURCE_EXHAUSTED for who submits."""

    queue: str
    length: int
    limit: int
    retry_after_s: float

    def __str__(self) -> str:
        return (
            f"queue {self.queue!r} is full ({self.length} tasks wait, the limit is {self.limit}): "
            f"try again in {ceil(self.retry_after_s)} s, or add workers"
        )


class QueueNotFoundError(LookupError):
    """No queue has this name: no route and no plugin leads to it."""

    def __init__(self, queue: str) -> None:
        super().__init__(f"queue '{queue}' not found")
        self.queue = queue


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker last said of itself."""

    slots: int | None = None
    busy: int | None = None
    cpu_share: float | None = None  # of one processor
    rss_bytes: int | None = None
    gpu_bytes: int | None = None
    versions: Mapping[str, str] = {}  # of the worker, its app and its components


class WorkerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    kind: WorkerKind
    queues: tuple[str, ...]
    claimed: int
    unclaimed: int
    slots: int
    silent_s: float
    report: WorkerReport | None
    held_up_s: float = 0.0  # how long its event loop has had no turn; 0: it runs
    stack: str | None = None  # of a worker that is held up, the thread that holds it first


class QueueStatistics(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    depth: int  # tasks that nobody has claimed
    claimed: int
    workers: int
    slots: int
    oldest_s: float  # how long the oldest unclaimed task has waited; 0: there is none
    finished: int
    timed_out: int


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """How the queues of a server and the workers that are connected to it are."""

    queues: Sequence[QueueStatistics]
    workers: Sequence[WorkerStatistics]


Waiting: TypeAlias = Callable[[Task, str], AbstractAsyncContextManager[None]]
"""Entered with a reason while a task waits for a worker to come: `Host.waiting`."""
