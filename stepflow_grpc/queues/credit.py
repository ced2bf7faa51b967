"""A queue's workers as the exchange counts them: for the engine's own tasks, and for those of other engines."""

from collections import deque
from collections.abc import Callable

import anyio
import msgspec

from stepflow.protocols import NOT_DONE, Clock
from stepflow.records import Json, Outcome, Task
from stepflow_grpc.queues.answer import pack_answer
from stepflow_grpc.queues.entry import Entry
from stepflow_grpc.queues.queue import Queue, Ticket
from stepflow_grpc.queues.settings import Settings
from stepflow_grpc.queues.stream import Stream
from stepflow_grpc.queues.task_queues import TaskQueues

UNTAKEN = NOT_DONE
"""Instead of an answer: no worker of any engine took the task."""

HERE = b"here"
"""Instead of an answer: it was done here, and the outcome is at hand."""

ASKED_FIRST_S = 1.0
"""How long an offer is out before it is looked whether another engine has taken it."""

ASKED_AGAIN_S = 5.0

HELD_OFF_S = 1.0
"""After a task that no worker here can do, how long others have to take what is on offer."""

PATIENCE_S = 3.0
"""How long the task of another engine waits here for a worker to come back."""

_TASK = msgspec.json.Decoder(Task)


class OwnCredit:
    """One task's place in the line: it acquires a worker when its turn comes.

    It also comes back without one, after a while, which makes the exchange say whether another engine has the task:
    if so `release` is called, else `work`.

    Args:
        is_for_others: no worker of this engine can do it.
    """

    def __init__(self, queues: TaskQueues, entry: Entry, clock: Clock, *, is_for_others: bool = False) -> None:
        self._queues = queues
        self._is_for_others = is_for_others
        self._entry = entry
        self._clock = clock
        self._asked_in_s = ASKED_FIRST_S
        self._asks_at: float | None = None
        self._has_asked = False
        self.outcome: Outcome | None = None

    async def acquire(self) -> None:
        entry = self._entry
        self._has_asked = False
        if self._asks_at is None:
            self._asks_at = self._clock.now() + self._asked_in_s
        entry.wants_only_credit = True
        try:
            while not self._has_worker():
                if entry.queue.is_served and not (entry.is_in_line or self._is_for_others):
                    self._queues.distribution.line_up(entry)
                if self._has_worker():
                    break
                left_s = self._asks_at - self._clock.now()
                if left_s <= 0:
                    self._asks_at, self._asked_in_s, self._has_asked = None, ASKED_AGAIN_S, True
                    break
                with self._clock.timeout(left_s):
                    await entry.changed()
        except BaseException:
            self._queues.distribution.give_credit_back(entry)
            raise
        if self._has_asked:
            self._queues.distribution.give_credit_back(entry)

    def acquire_nowait(self) -> None:
        raise anyio.WouldBlock

    def release(self) -> None:
        if self.outcome is not None:
            return
        if self._has_asked:
            self._queues.absence.note_served_elsewhere(self._entry.queue)
        else:
            self._queues.distribution.give_credit_back(self._entry)

    async def work(self, body: bytes) -> bytes:
        entry = self._entry
        entry.wants_only_credit = False
        if self._has_asked and not (entry.is_claimed or entry.is_over):
            self._has_asked = False
            return UNTAKEN
        while entry.outcome is None:
            if not (entry.queue.is_served or entry.is_claimed):
                return UNTAKEN
            self._queues.distribution.line_up(entry)
            await entry.changed()
        self.outcome = entry.outcome
        return HERE

    def _has_worker(self) -> bool:
        return self._entry.reserved is not None or self._entry.is_claimed or self._entry.is_over


class SpareCredit:
    """Workers of a queue that nothing of this engine needs now, for tasks of other engines.

    Args:
        report: told how far these tasks are.
        others_have: whether another engine has workers for a component, by queue and component, and this one has none.
    """

    def __init__(
        self,
        queues: TaskQueues,
        queue: Queue,
        settings: Settings,
        report: Callable[[Task, Json], None] | None = None,
        others_have: Callable[[str, str], bool] = lambda queue, component: False,
    ) -> None:
        self._queues = queues
        self._others_have = others_have
        self._queue = queue
        self._settings = settings
        self._report = report
        self._held: deque[Stream] = deque()
        self._held_off_until = 0.0
        self._done = 0  # works that have ended, and whose `release` follows

    async def acquire(self) -> None:
        if (left_s := self._held_off_until - self._queues.clock.now()) > 0:
            await self._queues.clock.sleep(left_s)
        ticket = Ticket()
        self._queue.spare[ticket] = None
        self._queues.distribution.pump(self._queue)
        try:
            await ticket.granted.wait()
        except BaseException:
            self._queue.spare.pop(ticket, None)
            if ticket.stream is not None:
                self._free(ticket.stream)
            raise
        assert ticket.stream is not None
        self._held.append(ticket.stream)

    def acquire_nowait(self) -> None:
        stream = next(iter(self._queue.idle), None)
        if stream is None or self._queue.spare or self._queue.line.length:
            raise anyio.WouldBlock
        stream.reserve()
        self._queue.place(stream)
        self._held.append(stream)

    def release(self) -> None:
        if self._done:
            self._done -= 1
        elif self._held:
            self._free(self._held.popleft())

    async def work(self, body: bytes) -> bytes:
        """Do a task of another engine."""
        stream = self._held.popleft() if self._held else None
        try:
            task = _TASK.decode(body)
            entry = self._queues.enter(self._settings.queued(task, self._queue.name, is_own=False, report=self._report))
            entry.reserved = stream
            outcome = await self._queues.perform(entry, patience_s=PATIENCE_S)
            if outcome in entry.refusals.values() and self._others_have(self._queue.name, task.target):
                self._held_off_until = self._queues.clock.now() + HELD_OFF_S
                return NOT_DONE
            return pack_answer(outcome, entry.ran_s)
        finally:
            self._done += 1

    def _free(self, stream: Stream) -> None:
        if stream.is_open:
            stream.unreserve()
            self._queues.distribution.refresh(stream.worker)
