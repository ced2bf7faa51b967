"""One attempt of a task, from its dispatch to its outcome."""

from collections.abc import Awaitable
from math import inf
from typing import TYPE_CHECKING

import anyio

from stepflow.records import Failed, Outcome, TaskId
from stepflow_grpc.queues.bell import Bell, ring, rung
from stepflow_grpc.queues.records import QueuedTask, WorkerKind
from stepflow_grpc.queues.stream import Stream, Worker

if TYPE_CHECKING:
    from stepflow_grpc.queues.queue import Queue

SILENT_S = 3.0
"""Silence after which a worker is dead: one of ours, or an upstream one whose streams are gone."""

SILENT_CONNECTED_S = 10.0
"""The same for an upstream worker with an open connection: its components may hold its one thread."""

GONE_S = 2.0
"""A worker of ours whose streams are gone, and that was not heard of since, is dead after so long: it was killed."""

LAST_WORDS_S = 0.5
"""What arrives so soon after the last stream was lost may have been said before that."""

RECONNECT_S = 1.0
"""A worker that was silent already has so long, once its stream is gone, to come back."""

OVERDUE_S = 0.25
"""What was sent and is unclaimed for so long may be sent to another worker too."""


_NONE: dict[str, Failed] = {}


class Entry:
    """It is queued (in line, or waiting for a worker to come), delivered, claimed, and ends with its outcome."""

    __slots__ = (
        "_bell",
        "claimant",
        "claimed_at",
        "claimed_attempt",
        "due_at",
        "entered_at",
        "followers",
        "heard_at",
        "id",
        "is_in_line",
        "is_replaced",
        "lost_by",
        "names",
        "out",
        "outcome",
        "place",
        "queue",
        "queued",
        "ran_s",
        "refusals",
        "reserved",
        "scope",
        "wait",
        "wants_only_credit",
    )

    def __init__(self, queued: QueuedTask, queue: "Queue", place: int, now: float) -> None:
        self.id: TaskId = queued.id
        self.queued = queued
        self.queue = queue
        self.place = place
        self.entered_at = now
        self.out: dict[Stream, float] = {}  # where it is sent and unclaimed, and since when
        self.names: dict[str, None] = {}  # of the workers that this attempt was sent to
        self.is_in_line = False
        self.is_replaced = False  # a later attempt is waited for
        self.claimant: Worker | None = None
        self.claimed_at = 0.0
        self.claimed_attempt: int | None = None  # an earlier one where its worker went on; None: it does not say
        self.lost_by: str | None = None  # the worker that an earlier attempt was taken from
        self.heard_at = 0.0
        self.reserved: Stream | None = None  # a worker is kept free for it
        self.scope: anyio.CancelScope | None = None  # around its being offered to other engines
        self.wants_only_credit = False  # whoever offered it says when it is sent
        self.outcome: Outcome | None = None
        self.ran_s = 0.0  # how long a worker was at it, once it is over
        self.refusals: dict[str, Failed] = _NONE  # by the workers that can't take it
        self.followers: list[Entry] = []  # earlier attempts that end with it
        self.due_at = inf
        self.wait: Wait | None = None  # for as long as its queue gives it to be claimed
        self._bell: Bell | None = None

    @property
    def run(self) -> str:
        return self.queued.task.root_run_id

    @property
    def attempt(self) -> int:
        return self.queued.task.attempt

    @property
    def is_claimed(self) -> bool:
        return self.claimant is not None

    @property
    def is_over(self) -> bool:
        return self.outcome is not None

    @property
    def is_with_somebody(self) -> bool:
        """Whether nobody else needs to be sent it."""
        return self.is_claimed or self.is_over

    def running_s(self, now: float) -> float:
        """For how long a worker has been at it: since its claim, or since it was sent where that was never told."""
        if self.claimant is not None:
            return now - self.claimed_at
        return now - min(self.out.values(), default=now)

    def may_go_on(self) -> bool:
        """Whether there is nothing that it waits for a worker to come for."""
        return bool(self.queue.streams) or self.claimant is not None or self.outcome is not None

    def ring(self) -> None:
        """Something changed that whoever waits for it has to look at."""
        if self.scope is not None and self.wants_only_credit and self.outcome is not None:
            self.scope.cancel()  # the answer came here, though another engine may have the task
        bell, self._bell = self._bell, None
        if bell is not None:
            ring(bell)

    def changed(self) -> Awaitable[None]:
        """Await it at once: returns after the next `ring`."""
        self._bell = self.queue.make_bell()
        return rung(self._bell)

    def end_wait(self) -> None:
        """It is claimed, or over."""
        if self.wait is not None:
            del self.wait.entries[self]
            self.wait = None

    def deadline(self) -> float:
        """When to look at it next, in the time of the deadlines."""
        if self.claimant is not None:
            limit_s = self.queued.execution_timeout_s
            return min(self.silence_ends(), inf if limit_s is None else self.claimed_at + limit_s)
        limit_s = self.queued.queue_timeout_s
        return inf if limit_s is None else self.entered_at + limit_s

    def silence_ends(self) -> float:
        """When its worker is dead unless it is heard of."""
        worker = self.claimant
        assert worker is not None
        if worker.kind is WorkerKind.OURS:
            return self._silence_of_ours_ends(worker)
        longest = self.heard_at + SILENT_CONNECTED_S
        if worker.streams:
            return longest
        return min(longest, max(self.heard_at + SILENT_S, worker.gone_at + RECONNECT_S))

    def _silence_of_ours_ends(self, worker: Worker) -> float:
        heard_at = max(worker.heard_at, self.heard_at)
        if worker.streams or heard_at > worker.gone_at + LAST_WORDS_S:
            return heard_at + SILENT_S
        return min(heard_at + SILENT_S, worker.gone_at + GONE_S)


class Wait:
    """The entries of a queue that are unclaimed and may be so for the same time, oldest first."""

    __slots__ = ("due_at", "entries", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.entries: dict[Entry, None] = {}
        self.due_at = inf
