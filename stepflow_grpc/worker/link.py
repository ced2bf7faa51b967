"""What connects a worker with one orchestrator."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from stepflow.errors import StepflowError
from stepflow.records import ComponentInfo, Json, Outcome, Task, TaskId
from stepflow_grpc.queues.records import WorkerReport


class LinkLostError(StepflowError):
    """The connection broke, or the server does not speak this protocol. What is at work goes on.

    Args:
        status: the name of the gRPC status that the stream ended with.
    """

    def __init__(self, message: str, *, status: str = "") -> None:
        super().__init__(message)
        self.status = status


class NotSpokenError(LinkLostError):
    """The server does not know this protocol: try the other."""


class Given(msgspec.Struct, frozen=True, eq=False):
    """A task as a worker has it."""

    id: TaskId  # as the orchestrator calls it
    task: Task  # its target is the component's id
    url: str  # where calls about it go: host:port
    heartbeat_s: float = 0.0  # how often it has to be heard of one by one; 0: the worker beats as a whole
    claim: Callable[[], Awaitable[bool]] | None = None  # awaited before work begins; False: the task is another's


class Desk(Protocol):
    """The worker, as its links see it."""

    @property
    def worker_id(self) -> str: ...

    @property
    def queue(self) -> str: ...

    @property
    def components(self) -> Sequence[ComponentInfo]: ...

    @property
    def free(self) -> int:
        """How many more tasks would begin at once."""
        ...

    @property
    def is_draining(self) -> bool:
        """Whether nothing more is taken."""
        ...

    def report(self) -> WorkerReport:
        """How the worker is."""
        ...

    def has(self) -> Sequence[TaskId]:
        """Tasks that are at work, and those whose answers are not acknowledged."""
        ...

    def begin(self, given: Given, link: "Link") -> bool:
        """Begin with a task, or go on with it where it is at work already. False: there is no slot free."""
        ...

    def begin_each(self, given: Sequence[Given], link: "Link") -> Sequence[TaskId]:
        """The same with all that came at once. Gives those that there was no slot free for."""
        ...

    def stop(self, task_id: TaskId, attempt: int) -> None:
        """Nobody wants this attempt any more."""
        ...

    def acknowledged(self, task_id: TaskId, attempt: int | None = None) -> None:
        """The answer to this attempt is recorded, or nobody will ever want it: forget it, and those before it.

        Args:
            attempt: None: the server does not say; whatever is kept.
        """
        ...

    def unwanted(self, task_id: TaskId) -> None:
        """Nobody waits for the answer now: keep a success for a while, for a later attempt."""
        ...

    def unanswered(self) -> Sequence[tuple[Given, Outcome]]:
        """The answers that no server has acknowledged, oldest first."""
        ...


class Link(Protocol):
    """One orchestrator, as the worker sees it."""

    async def run(self, desk: Desk) -> None:
        """Connect, take tasks as far as there are slots, and say answers, until the desk drains and has nothing left.

        What `desk.unanswered()` has once the connection is there is said over it. A desk that drains is done when
        `desk.has()` is empty; the link may return before where answers go another way.

        Raises:
            NotSpokenError: the server does not speak this protocol.
            LinkLostError: the connection could not be made, or broke.
        """
        ...

    @property
    def is_live(self) -> bool:
        """Whether the stream is open."""
        ...

    @property
    def engine(self) -> str:
        """Which engine is there, once it is live; empty: it didn't say. One that is met twice keeps one connection."""
        ...

    def changed(self) -> None:
        """The desk has more or fewer slots free, drains, or has other components. Must not block."""
        ...

    def answer(self, given: Given, outcome: Outcome) -> None:
        """Say what came of a task, and again until it is acknowledged or the link is lost. Must not block."""
        ...

    def progress(self, given: Given, value: Json) -> None:
        """Say once how far a task is, as well as the protocol can. Must not block."""
        ...

    def say_what_is_there(self, has: Sequence[TaskId]) -> None:
        """Another link was lost, and what the worker has may become this engine's: say which tasks it has."""
        ...
