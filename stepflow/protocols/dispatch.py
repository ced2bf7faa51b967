"""Tasks that engines of one store hand to each other."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from stepflow.protocols.store import PAGE
from stepflow.records import Answer, Offer, RunId, TaskId

LAST_ATTEMPT = 2**62
"""Beyond any attempt."""


NOT_DONE = b""
"""What work gives instead of an answer where no worker here can do the task: it is for other engines."""


class Dispatch(Protocol):
    """Tasks that their engine finds nobody for, taken by engines that have a worker free."""

    async def offer(self, owner: str, offers: Sequence[Offer]) -> None:
        """Offer tasks to the other engines. An offer of a later attempt replaces that of an earlier one."""
        ...

    async def claim(self, owner: str, queue: str, *, limit: int = 1) -> Sequence[Offer]:
        """Take offers of this queue that nobody has, oldest first; never one's own.

        An offer whose claimer has died is free again. Engines that claim at once do not wait for each other and never
        get the same offer. Offers of an engine that is dead are not given.
        """
        ...

    async def give_back(self, owner: str, offers: Sequence[Offer]) -> None:
        """Claimed offers that could not be served are free for others again, at their old places."""
        ...

    async def give_back_others(self, owner: str, queue: str, known: Sequence[Offer]) -> None:
        """Free what this engine has claimed in this queue besides these: the answer to its claim was lost.

        Offers are told apart by task and attempt; their bodies don't matter. The engine has no claim on its way in
        this queue meanwhile. Offers that others have claimed, or that were answered, stay as they are.
        """
        ...

    async def answer(self, answer: Answer) -> bool:
        """What came of a task; durable when this returns, also where the run has a new owner by now.

        Answering again changes nothing. False: nobody waits for it (withdrawn, replaced by a later attempt, answered
        before), and nothing was kept.
        """
        ...

    async def answers(self, owner: str, *, limit: int = PAGE) -> Sequence[Answer]:
        """Answers for the runs that this engine owns now, oldest first; given again until `withdraw`."""
        ...

    async def take_back(self, owner: str, task_ids: Sequence[TaskId]) -> Sequence[TaskId]:
        """Withdraw those of one's own offers that nobody has, or whose claimer has died, and give their ids.

        The others stay: somebody is at work on them, or has answered.
        """
        ...

    async def withdraw(self, task_ids: Sequence[TaskId], *, through: int = LAST_ATTEMPT) -> None:
        """Drop offers and their answers: they were recorded, or are not wanted any more.

        Offers of attempts after `through` stay: they may be those of an engine that has taken the run over.
        """
        ...

    async def announce(self, owner: str, queue: str, listed: bytes) -> None:
        """Say what this engine's workers of a queue can do. It holds until it is said anew, or the engine is gone."""
        ...

    async def announced(self, owner: str, queue: str) -> Sequence[bytes]:
        """What the other engines that live have said of a queue, in the order of their names."""
        ...


class Credit(Protocol):
    """How many more tasks the workers of a queue could take now, as `anyio.Semaphore` counts it."""

    async def acquire(self) -> None:
        """Wait for a worker and have it."""
        ...

    def acquire_nowait(self) -> None:
        """The same without waiting. Raises: anyio.WouldBlock."""
        ...

    def release(self) -> None:
        """The worker is free again."""
        ...


Work: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""What a worker does: a task's body in, the answer's body out. It must not raise."""


class Exchange(Protocol):
    """Where the tasks of all engines that share a store meet the workers of all; each engine has its own end of it."""

    kept: Callable[[RunId, TaskId], None]  # told of each answer that this engine has stored for the one of the run

    async def perform(self, offer: Offer, credit: Credit, work: Work) -> bytes:
        """Have a task done by a worker of this engine, or of another when none was free here for a moment.

        An answer that came while the run was being taken over is given without doing the task again.
        """
        ...

    async def serve(self, queue: str, credit: Credit, work: Work) -> None:
        """Let the workers of this engine do the tasks of others while they are free. Until it is cancelled."""
        ...

    def announce(self, queue: str, listed: bytes) -> None:
        """Tell the others what the workers of this engine can do, soon and for as long as the engine lives."""
        ...

    async def follow(self, queue: str, heard: Callable[[Sequence[bytes]], None]) -> None:
        """Hand on what other engines' workers can do, each time that may have changed. Until it is cancelled."""
        ...
