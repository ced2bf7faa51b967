"""One worker's open stream, and how many more tasks it may be sent."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

import anyio

from stepflow.records import Failed, TaskId
from stepflow_grpc.queues.bell import Bell, ring, rung
from stepflow_grpc.queues.records import Discovery, Pulled, QueuedTask, Withdrawn, WorkerKind, WorkerReport

if TYPE_CHECKING:
    from stepflow_grpc.queues.entry import Entry
    from stepflow_grpc.queues.queue import Queue
    from stepflow_grpc.queues.task_queues import TaskQueues

WIDEST = 8
"""Unclaimed tasks that an upstream worker is sent at most."""

QUICK_S = 0.05
"""A claim that came so soon: the worker may be sent one more."""

SLOW_S = 0.1
"""A claim that took so long: the worker had no slot free, and half as many are enough."""

FORGIVEN_S = 5.0
"""After so long an idle worker is sent something again although it claimed nothing; twice as long the next time."""

LONGEST_S = 60.0

UPSTREAM_SLOTS = 4
"""What an upstream worker, which does not say, is counted as."""


class Worker:
    """What is known of one worker process."""

    __slots__ = (
        "claimed",
        "gone_at",
        "has",
        "heard_at",
        "held_up_s",
        "id",
        "kind",
        "peak",
        "report",
        "stack",
        "streams",
    )

    def __init__(self, id: str, kind: WorkerKind, now: float) -> None:
        self.id = id
        self.kind = kind
        self.streams: dict[Stream, None] = {}
        self.claimed: dict[TaskId, Entry] = {}
        self.has: set[TaskId] = set()  # what it said to have when it last told all, without what it has answered since
        self.peak = 1  # the most it was ever seen to do at a time
        self.heard_at = now
        self.gone_at = -inf  # when the last of its streams was lost
        self.report: WorkerReport | None = None
        self.held_up_s = 0.0  # how long its event loop has had no turn, says the process beside it
        self.stack: str | None = None

    @property
    def slots(self) -> int:
        """How many tasks it does at a time, as far as that can be told."""
        if self.report is not None and self.report.slots is not None:
            return self.report.slots
        return self.peak if self.kind is WorkerKind.OURS else max(UPSTREAM_SLOTS, self.peak)

    @property
    def is_stalled(self) -> bool:
        """Whether it was sent something that it did not claim in time: it gets nothing more until it does."""
        for stream in self.streams:  # noqa: SIM110 - on the hot path
            if stream.overdue:
                return True
        return False


class Sending:
    """What a stream was sent is looked after once it may be overdue."""

    __slots__ = ("due_at", "stream")

    def __init__(self, stream: "Stream") -> None:
        self.stream = stream
        self.due_at = inf


class Stream:
    """Where a worker's tasks come out. `next` and `more` are for the one who writes them to the worker."""

    def __init__(self, queues: "TaskQueues", queue: "Queue", worker: Worker, credit: int) -> None:
        self.queue = queue
        self.worker = worker
        self.is_open = True
        self.window = 1
        self.credit = credit
        self.reserved = 0
        self.out: dict[TaskId, tuple[Entry, float]] = {}  # sent and unclaimed, and since when
        self.overdue: dict[TaskId, None] = {}
        self.patience_s = FORGIVEN_S
        self.due_at = inf
        self.sending = Sending(self)
        self._queues = queues
        self._notices: deque[Pulled] = deque()
        self._unsent: OrderedDict[TaskId, QueuedTask] = OrderedDict()
        self._bell: Bell | None = None

    async def next(self) -> Pulled:
        """What to send next. Raises: anyio.EndOfStream once the stream is disconnected."""
        self.go_on()
        while not (self._notices or self._unsent):
            if not self.is_open:
                raise anyio.EndOfStream
            await self._rung()
        return self._pop()

    async def rung(self) -> None:
        """Return when something is there to send, or `ring` was called. Raises: anyio.EndOfStream, as `next`."""
        if not self.is_open:
            raise anyio.EndOfStream
        await self._rung()

    async def _rung(self) -> None:
        self._bell = self.queue.make_bell()
        await rung(self._bell)

    def more(self, limit: int) -> list[Pulled]:
        """What else could be sent now, at most so many."""
        self.go_on()
        if not self._notices and len(self._unsent) <= limit:
            tasks: list[Pulled] = list(self._unsent.values())
            self._unsent.clear()
            return tasks
        return [self._pop() for _ in range(min(limit, len(self._notices) + len(self._unsent)))]

    @property
    def has_more(self) -> bool:
        """Whether something could be sent now."""
        return bool(self._notices or self._unsent)

    def grant(self, count: int) -> None:
        """The worker can take so many more; only one of ours says so."""
        self.credit += count
        for task_id in self.overdue:
            if task_id in self.out and self.out[task_id][0].is_with_somebody:
                del self.out[task_id]
        self.overdue.clear()
        self._queues.distribution.refresh(self.worker)

    def tell(self, notice: Discovery | Withdrawn) -> None:
        """Send something ahead of the tasks and without credit."""
        self._notices.append(notice)
        self.ring()

    def decline(self, task_ids: Sequence[TaskId]) -> None:
        """The worker was sent these and has no slot free: they stand in line again, where they stood."""
        self._queues.decline(self, task_ids)

    def refuse(self, task_id: TaskId, outcome: Failed) -> None:
        """The worker can't take this at all: it is for the others of the queue; where none is left, it fails so."""
        self.credit += 1
        self._queues.refuse(self, task_id, outcome)

    def unclaimed(self) -> list[QueuedTask]:
        """What the worker was sent, and nobody has claimed."""
        out = [entry for entry, _ in self.out.values() if not entry.is_with_somebody]
        return [entry.queued for entry in out if entry.id not in self._unsent]

    def disconnect(self) -> None:
        """The worker can't be sent anything any more; what it did not claim goes back to its place at once."""
        self._queues.disconnect(self)

    @property
    def is_free(self) -> bool:
        """Whether it may be sent one more."""
        if not self.is_open or self.worker.is_stalled:
            return False
        if self.worker.kind is WorkerKind.OURS:
            return self.credit > 0
        return len(self.out) + self.reserved < self.window

    @property
    def is_idle(self) -> bool:
        """Whether its worker would begin at once."""
        if self.worker.kind is WorkerKind.OURS:
            return True
        has_slot = not self.worker.claimed or len(self.worker.claimed) < self.worker.peak
        return has_slot and not self.out and not self.reserved

    def reserve(self) -> None:
        self.reserved += 1
        self.credit -= 1

    def unreserve(self) -> None:
        self.reserved -= 1
        self.credit += 1

    def send(self, entry: "Entry", now: float) -> None:
        if entry.id in self.out:
            del self.out[entry.id]  # the oldest comes first
        self.out[entry.id] = (entry, now)
        self.credit -= 1
        self._unsent[entry.id] = entry.queued
        if self._bell is not None:
            self.ring()

    def withdraw(self, entry: "Entry") -> bool:
        """Take back what was not sent yet. False: it is on its way, and the worker is waited for until it says so."""
        if self.out.get(entry.id, (None,))[0] is not entry:
            return True
        if self._unsent.get(entry.id) is not entry.queued:
            self.overdue[entry.id] = None
            return False
        del self._unsent[entry.id], self.out[entry.id]
        self.credit += 1
        return True

    def heard(self, task_id: TaskId, attempt: int | None, now: float) -> bool:
        """The worker spoke of a task that it was sent. How soon says how many it may be sent ahead.

        True: it may be sent more now.
        """
        sent = self.out.get(task_id)
        if sent is None:
            return self.overdue.pop(task_id, self) is None
        entry, since = sent
        if task_id in self._unsent or (attempt is not None and attempt != entry.queued.task.attempt):
            return False
        del self.out[task_id]
        was_stalled = bool(self.overdue) and self.overdue.pop(task_id, self) is None
        self.patience_s = FORGIVEN_S
        if self.worker.kind is WorkerKind.OURS:
            return was_stalled
        if now - since <= QUICK_S:
            self.window = min(WIDEST, self.window + 1)
        elif now - since > SLOW_S:
            self.window = max(1, self.window // 2)
        return True

    def mark_overdue(self, task_id: TaskId) -> None:
        if task_id in self.out:
            self.overdue[task_id] = None
            self.window = 1

    def go_on(self) -> None:
        """Its worker is not held up any more by what it does not have."""
        gone = [task_id for task_id in self.overdue if task_id not in self.out]
        for task_id in gone:
            del self.overdue[task_id]
        if gone:
            self._queues.distribution.refresh(self.worker)

    def forgive(self) -> None:
        """It may be sent something again: what it did not claim may have been lost on the way."""
        for task_id in self.overdue:
            self.out.pop(task_id, None)
            self._unsent.pop(task_id, None)
        self.overdue.clear()
        self.patience_s = min(2 * self.patience_s, LONGEST_S)

    def drop(self, task_id: TaskId) -> "Entry | None":
        """What it was sent and does not have; None: it has answered or claimed it, or was sent something else."""
        self.overdue.pop(task_id, None)
        if task_id in self._unsent:
            return None
        entry, _ = self.out.pop(task_id, (None, 0.0))
        return entry

    def close(self) -> "list[Entry]":
        """End it; what it had unclaimed."""
        self.is_open = False
        left = [entry for entry, _ in self.out.values()]
        self.out.clear()
        self.overdue.clear()
        self._unsent.clear()
        self.ring()
        return left

    def ring(self) -> None:
        bell, self._bell = self._bell, None
        if bell is not None:
            ring(bell)

    def _pop(self) -> Pulled:
        return self._notices.popleft() if self._notices else self._unsent.popitem(last=False)[1]
