"""The queues of one engine: tasks go in, workers pull them, claim them and answer."""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import takewhile
from math import inf

import msgspec

from stepflow.protocols import Clock
from stepflow.records import ErrorCode, Failed, Json, Outcome, Succeeded, Task, TaskId
from stepflow_grpc.queues.deadlines import Deadlines
from stepflow_grpc.queues.entry import OVERDUE_S, SILENT_S, Entry, Wait
from stepflow_grpc.queues.queue import WARNED_AFTER_S, Queue
from stepflow_grpc.queues.records import (
    Answer,
    Heard,
    QueuedTask,
    QueueFull,
    QueueLimits,
    QueueNotFoundError,
    QueueStatistics,
    Taken,
    Waiting,
    Withdrawn,
    WorkerKind,
    WorkerReport,
    WorkerStatistics,
)
from stepflow_grpc.queues.statistics import queue_statistics, worker_statistics
from stepflow_grpc.queues.stream import Sending, Stream, Worker

logger = logging.getLogger("stepflow.queues")

LOOK_AGAIN_S = 1.0
"""How often to look after a task that is sent and stays unclaimed."""

KEPT_S = 120.0
"""How long an attempt that was given up is remembered: its answer may come before the next attempt begins."""

MOST_KEPT = 10_000


class _GivenUp(msgspec.Struct):
    """Between two attempts: who had the first, and the success that came after all."""

    holder: str | None
    until: float
    outcome: Outcome | None = None


class TaskQueues:
    """Named queues over one clock. Everything but waiting is plain calls on one event loop.

    `run` looks after deadlines and has to run as long as the queues are used.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queues: dict[str, Queue] = {}
        self._workers: dict[str, Worker] = {}
        self._entries: dict[TaskId, Entry] = {}
        self._given_up: dict[TaskId, _GivenUp] = {}
        self._deadlines: Deadlines[Entry | Stream | Sending | Wait | Queue] = Deadlines(clock)
        self._place = 0
        self.warned_of: Callable[[str], None] = lambda queue: None  # told of a queue that has had no worker for long

    async def run(self) -> None:
        """Give up what took too long, and move on what nobody claims. Until it is cancelled."""
        while True:
            await self._deadlines.wait()
            for watched in self._deadlines.due():
                if isinstance(watched, Entry):
                    self._look_at_entry(watched)
                elif isinstance(watched, Stream):
                    self._look_at_stream(watched)
                elif isinstance(watched, Sending):
                    self._look_at_sent(watched.stream)
                elif isinstance(watched, Wait):
                    self._look_at_wait(watched)
                else:
                    self._warn(watched)

    def configure(self, name: str, limits: QueueLimits | None = None) -> Queue:
        """Let a queue exist, with these limits if any are given."""
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue(name)
        if limits is not None:
            queue.limits = limits
        return queue

    def explain_unserved(self, name: str, trouble: str | None) -> bool:
        """Say why a queue has no worker, to whoever waits for one; None: nobody knows. False: that is no news."""
        queue = self._queues.get(name)
        if queue is None or queue.trouble == trouble:
            return False
        queue.trouble = trouble
        queue.ring()
        return True

    def want(self, name: str) -> None:
        """A step waits to hear which components the workers of a queue have."""
        queue = self.configure(name)
        queue.is_wanted = True
        self._expect_worker(queue)

    def _expect_worker(self, queue: Queue) -> None:
        if not queue.is_served and queue.lacks_since is None:
            queue.lacks_since = self._deadlines.now()
            self._deadlines.set(queue, queue.lacks_since + WARNED_AFTER_S)

    def full(self, name: str) -> QueueFull | None:
        """Why no new run may be submitted that needs this queue; None: there is room."""
        queue = self._queues.get(name)
        return None if queue is None else queue.full(self._deadlines.now())

    # Workers

    def connect(self, name: str, worker_id: str, kind: WorkerKind = WorkerKind.UPSTREAM, *, credit: int = 0) -> Stream:
        """Open a stream for a worker; `credit`: how many tasks one of ours takes at first.

        Raises:
            QueueNotFoundError: there is no such queue.
        """
        queue = self._queues.get(name)
        if queue is None:
            raise QueueNotFoundError(name)
        worker = self._worker(worker_id, kind)
        worker.heard_at = self._deadlines.now()
        stream = Stream(self, queue, worker, credit)
        was_served = queue.is_served
        worker.streams[stream] = None
        queue.streams[stream] = None
        queue.place(stream)
        queue.is_warned_of = queue.is_wanted = False
        queue.lacks_since = None
        if not was_served:
            queue.ring()
        self.pump(queue)
        return stream

    def disconnect(self, stream: Stream) -> None:
        """Close a stream: what its worker had not claimed stands in line again, where it stood."""
        if not stream.is_open:
            return
        queue, worker = stream.queue, stream.worker
        left = stream.close()
        for streams in (queue.streams, queue.idle, queue.free, worker.streams):
            streams.pop(stream, None)
        if not worker.streams:
            worker.gone_at = self._deadlines.now()
            for entry in worker.claimed.values():
                self._deadlines.set(entry, entry.deadline())
        for entry in left:
            self._send_back(entry, stream)
        for entry in tuple(queue.overdue):
            self._fail_if_refused(entry)
        if not queue.is_served:
            for entry in queue.unclaimed:
                self._line_out(entry)
            if queue.unclaimed:
                self._expect_worker(queue)
            queue.ring()
        self._forget_if_gone(worker)
        self.pump(queue)

    def decline(self, stream: Stream, task_ids: Sequence[TaskId]) -> None:
        """What a worker was sent and won't begin is for others, at its old place."""
        stream.worker.heard_at = self._deadlines.now()
        for task_id in task_ids:
            entry = stream.drop(task_id)
            if entry is not None:
                self._send_back(entry, stream)
        self.refresh(stream.worker)

    def refuse(self, stream: Stream, task_id: TaskId, outcome: Failed) -> None:
        """What a worker can't take is for the others of its queue; where there is none, that is the outcome."""
        entry = stream.drop(task_id)
        if entry is None or entry.out.pop(stream, None) is None:
            return
        entry.refusals = {**entry.refusals, stream.worker.id: outcome}
        entry.names = dict.fromkeys([*entry.refusals, *(each.worker.id for each in entry.out)])
        entry.queue.overdue[entry] = None
        self._fail_if_refused(entry)
        self.refresh(stream.worker)

    def _fail_if_refused(self, entry: Entry) -> None:
        workers = entry.queue.workers if entry.refusals else ()
        if workers and all(worker.id in entry.refusals for worker in workers):
            self._finish(entry, next(reversed(entry.refusals.values())))

    def beat(
        self,
        worker_id: str,
        report: WorkerReport | None = None,
        *,
        held_up_s: float | None = None,
        stack: str | None = None,
    ) -> bool:
        """A worker as a whole lives, and says how it is.

        Args:
            held_up_s: how long its event loop has had no turn; None: of that nothing is said.

        Returns: False where no such worker is connected here or has a task of this engine.
        """
        worker = self._workers.get(worker_id)
        if worker is None:
            return False
        worker.heard_at = self._deadlines.now()
        if report is not None:
            worker.report = report
        if held_up_s is not None:
            _note_held_up(worker, held_up_s, stack)
        for stream in worker.streams:
            stream.go_on()
        return True

    def worker(self, worker_id: str) -> Worker | None:
        """The worker of this id, if it is connected or has a task."""
        return self._workers.get(worker_id)

    def reconcile(self, worker_id: str, has: Collection[TaskId]) -> None:
        """A worker of ours says which tasks it has, those whose answers are not acknowledged included.

        What of them an engine gave out that is gone is its own. What it claimed a while ago and does not have was lost
        on the way, and is given up.
        """
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        now = worker.heard_at = self._deadlines.now()
        worker.has = set(has)
        for task_id in has:
            entry = self._entries.get(task_id)
            if entry is not None and not entry.is_with_somebody and self._may_claim(entry, worker_id, None):
                self._adopt(entry, worker, now)
        for entry in tuple(worker.claimed.values()):
            if entry.id not in has and now - entry.heard_at > SILENT_S:
                self._give_up(entry, f"worker {worker_id!r} does not have task {entry.id}, which it had claimed")

    def task(self, task_id: TaskId) -> Task | None:
        """What is waited for under this id; None: nothing."""
        entry = self._entries.get(task_id)
        return None if entry is None else entry.queued.task

    def is_sent_to(self, task_id: TaskId, worker_id: str) -> bool:
        """Whether a task went to a worker through a stream of this engine, or is claimed here by somebody."""
        entry = self._entries.get(task_id)
        return entry is not None and (entry.claimant is not None or worker_id in entry.names)

    def heartbeat(self, task_id: TaskId, worker_id: str, *, attempt: int | None = None) -> Heard:
        """A worker begins with a task, or is at work on it."""
        now = self._deadlines.now()
        entry = self._entries.get(task_id)
        freed = self._read(worker_id, task_id, attempt, now)
        heard = self._heard(task_id, entry, worker_id, attempt, now)
        if freed is not None:
            self.refresh(freed)
        return heard

    def report(self, task_id: TaskId, worker_id: str, progress: Json) -> None:
        """A worker says how far a task is. What it has not claimed, or another engine gave, nobody is told of."""
        entry = self._entries.get(task_id)
        if entry is None or entry.claimant is None or entry.claimant.id != worker_id:
            return
        if entry.queued.report is not None:
            entry.queued.report(entry.queued.task, progress)

    def report_elsewhere(self, task_id: TaskId, progress: Json) -> None:
        """A worker of another engine says how far a task of this one is."""
        entry = self._entries.get(task_id)
        if entry is not None and entry.claimant is None and entry.queued.report is not None:
            entry.queued.report(entry.queued.task, progress)

    def began(self, task_id: TaskId, worker_id: str, *, attempt: int) -> None:
        """A worker began with a task a while ago, and might have answered it since: it counts only as a claim of the
        very attempt that it was sent.
        """
        entry = self._entries.get(task_id)
        if entry is not None and entry.attempt == attempt and worker_id in entry.names:
            self.heartbeat(task_id, worker_id, attempt=attempt)

    def complete(
        self, task_id: TaskId, outcome: Outcome, *, attempt: int | None = None, worker_id: str | None = None
    ) -> Taken:
        """A worker's answer: a success of any attempt ends the task, a failure that of its own attempt alone."""
        return self._complete(task_id, outcome, attempt, worker_id, self._deadlines.now())

    def complete_each(self, answers: Iterable[Answer], worker_id: str) -> list[Taken]:
        """The same for all that a worker answers at once; what came of each."""
        now = self._deadlines.now()
        return [self._complete(each.id, each.outcome, each.attempt, worker_id, now) for each in answers]

    def _complete(
        self, task_id: TaskId, outcome: Outcome, attempt: int | None, worker_id: str | None, now: float
    ) -> Taken:
        entry = self._entries.get(task_id)
        freed = self._read(worker_id, task_id, attempt, now) if worker_id is not None else None
        if entry is None:
            taken = self._keep(task_id, outcome)
            if worker_id in self._workers:
                self._workers[worker_id].has.discard(task_id)
        elif type(outcome) is Failed and _is_stale(entry, attempt, worker_id):
            taken = Taken.STALE
        else:
            self._answered(entry, outcome, now)
            taken = Taken.ACCEPTED
        if freed is not None:
            self.refresh(freed)
        return taken

    def cancel(self, task_id: TaskId) -> bool:
        """End a task that nobody wants any more. False: there is none."""
        entry = self._entries.get(task_id)
        if entry is None:
            return False
        self._withdraw(entry)
        return True

    # Tasks

    async def offer(self, queued: QueuedTask, waiting: Waiting) -> Outcome:
        """Have a task done by a worker of this engine; what is cancelled meanwhile is withdrawn.

        Args:
            waiting: entered while the queue has no worker; the task stands in line only outside of it.
        """
        entry = self.enter(queued)
        try:
            if queued.task.was_cut_off:
                await self.settle(entry)
            while entry.outcome is None:
                if entry.queue.streams or entry.is_claimed:
                    self.line_up(entry)
                    await entry.changed()
                else:
                    await self.wait_served(entry, waiting)
            return entry.outcome
        finally:
            if entry.outcome is None:
                self.leave(entry)

    async def perform(self, entry: Entry, *, patience_s: float) -> Outcome:
        """What comes of an entered task, which may have a worker kept for it.

        UNREACHABLE when the queue has had no worker for so long: somebody else may have one.
        """
        try:
            while entry.outcome is None:
                if _may_go_on(entry):
                    self.line_up(entry)
                    await entry.changed()
                    continue
                with self._clock.timeout(patience_s):
                    await entry.changed()
                if not _may_go_on(entry):
                    return Failed(ErrorCode.UNREACHABLE, f"no worker serves queue {entry.queue.name!r} any more")
            return entry.outcome
        finally:
            self.leave(entry)

    async def settle(self, entry: Entry) -> None:
        """Leave a task that an engine gave out which is gone to the worker that has it: so long that one may be silent.

        Returns once it is claimed or over, or nobody was heard of.
        """
        with self._clock.timeout(SILENT_S):
            while not entry.is_with_somebody:
                await entry.changed()

    def is_served_somewhere(self, queue: Queue) -> bool:
        """Whether a worker of this engine serves a queue, or another engine took a task of it lately."""
        return queue.is_served or queue.served_elsewhere_until > self._deadlines.now()

    def note_served_elsewhere(self, queue: Queue, for_s: float) -> None:
        """Another engine has taken a task."""
        was_served = self.is_served_somewhere(queue)
        queue.served_elsewhere_until = self._deadlines.now() + for_s
        if not was_served:
            queue.ring()

    async def wait_served(self, entry: Entry, waiting: Waiting) -> None:
        """Return when a worker came, or the task is claimed or over without."""
        while not _may_go_on(entry):
            reason = entry.queue.unserved
            async with waiting(entry.queued.task, reason):
                while not _may_go_on(entry) and entry.queue.unserved == reason:
                    await entry.changed()

    def enter(self, queued: QueuedTask) -> Entry:
        """Make a task known, outside the line. `leave` has to follow."""
        now = self._deadlines.now()
        queue = self._queues.get(queued.queue) or self.configure(queued.queue)
        self._place += 1
        entry = Entry(queued, queue, self._place, now)
        given_up = self._given_up.pop(entry.id, None) if self._given_up else None
        if given_up is not None:
            entry.outcome, entry.lost_by = given_up.outcome, given_up.holder
            if entry.is_over:
                return entry
        former = self._entries.get(entry.id)
        self._entries[entry.id] = entry
        queue.unclaimed[entry] = None
        if former is not None:
            self._replace(former, entry, now)
            self._deadlines.set(entry, entry.deadline())
        elif queued.queue_timeout_s is not None:
            self._limit_wait(entry, queued.queue_timeout_s)
        if queued.task.was_cut_off:
            self._give_to_holder(entry, now)
        if not queue.streams:
            self._expect_worker(queue)
        return entry

    def _limit_wait(self, entry: Entry, timeout_s: float) -> None:
        """Only the oldest of those that may wait as long has a deadline: a queue may hold many, and they end early."""
        wait = entry.queue.waits.get(timeout_s)
        if wait is None:
            wait = entry.queue.waits[timeout_s] = Wait(timeout_s)
        entry.wait = wait
        wait.entries[entry] = None
        if wait.due_at == inf:
            self._deadlines.set(wait, entry.entered_at + timeout_s)

    def _give_to_holder(self, entry: Entry, now: float) -> None:
        """A task that an engine gave out which is gone: its worker may be connected here already."""
        for worker in tuple(self._workers.values()):
            if entry.id in worker.has and worker.streams and not entry.is_with_somebody:
                self._adopt(entry, worker, now)

    def _adopt(self, entry: Entry, worker: Worker, now: float) -> None:
        """What a worker does, whichever attempt that is, becomes the execution of this one."""
        self._claim(entry, worker, now)
        entry.claimed_attempt = 1

    def leave(self, entry: Entry) -> None:
        """Nobody waits for this attempt any more; whoever waits for an earlier one goes on to."""
        if entry.is_over:
            return
        waiting = [one for one in entry.followers if not one.is_over]
        if waiting and self._entries.get(entry.id) is entry:
            self._hand_back(entry, waiting)
        else:
            self._withdraw(entry)

    def line_up(self, entry: Entry) -> None:
        """Stand in line, unless it is with a worker or over."""
        if entry.is_in_line or entry.out or entry.claimant is not None or self._entries.get(entry.id) is not entry:
            return
        stream = entry.reserved
        if stream is not None:
            entry.reserved = None
            if stream.is_open:
                stream.unreserve()
                self._send(entry, stream)
                return
        queue = entry.queue
        if not queue.streams:
            return
        if not (queue.line.length or queue.overdue) and (next_stream := queue.next_stream()) is not None:
            give = self._reserve if entry.wants_only_credit else self._send
            give(entry, next_stream)
            return
        self._line_in(entry, is_back=stream is not None)
        self.pump(queue)

    def give_credit_back(self, entry: Entry) -> None:
        """Leave the line, and free the worker that was kept for it."""
        self._line_out(entry)
        stream, entry.reserved = entry.reserved, None
        if stream is not None and stream.is_open:
            stream.unreserve()
            self.refresh(stream.worker)

    # Who gets what

    def pump(self, queue: Queue) -> None:
        """Send what can be sent."""
        if not (queue.line.length or queue.overdue or queue.spare):
            return
        self._copy_overdue(queue)
        while queue.line.length and (stream := queue.next_stream()) is not None:
            entry = queue.line.take()
            assert entry is not None
            entry.is_in_line = False
            give = self._reserve if entry.wants_only_credit else self._send
            give(entry, stream)
        while queue.spare and queue.idle and not queue.line.length:
            ticket = next(iter(queue.spare))
            del queue.spare[ticket]
            ticket.stream = next(iter(queue.idle))
            ticket.stream.reserve()
            queue.place(ticket.stream)
            ticket.granted.set()

    def refresh(self, worker: Worker) -> None:
        """Something about a worker changed: it may be sent more now."""
        for stream in worker.streams:
            stream.queue.place(stream)
        for stream in tuple(worker.streams):
            self.pump(stream.queue)

    def _reserve(self, entry: Entry, stream: Stream) -> None:
        entry.reserved = stream
        stream.reserve()
        entry.queue.place(stream)
        entry.ring()

    def _send(self, entry: Entry, stream: Stream) -> None:
        now = self._deadlines.now()
        entry.out[stream] = now
        entry.names[stream.worker.id] = None
        stream.send(entry, now)
        entry.queue.place_sent(stream)
        if stream.sending.due_at == inf:
            self._deadlines.set(stream.sending, now + OVERDUE_S)

    def _send_back(self, entry: Entry, stream: Stream) -> None:
        """A stream that a task was sent to is gone."""
        if entry.out.pop(stream, None) is None or entry.out or entry.is_claimed or entry.is_over:
            return
        entry.queue.overdue.pop(entry, None)
        if entry.queue.is_served and not entry.is_in_line:
            self._line_in(entry, is_back=True)

    def _copy_overdue(self, queue: Queue) -> None:
        if not queue.overdue:
            return
        for stream in tuple(queue.idle):
            entry = next((entry for entry in queue.overdue if stream.worker.id not in entry.names), None)
            if entry is not None:
                del queue.overdue[entry]
                self._line_out(entry)
                self._send(entry, stream)

    def _line_in(self, entry: Entry, *, is_back: bool = False) -> None:
        entry.is_in_line = True
        entry.queue.line.add(entry.run, entry.place, entry, is_back=is_back)

    def _line_out(self, entry: Entry) -> None:
        if entry.is_in_line:
            entry.is_in_line = False
            entry.queue.line.remove(entry.run, entry.place)

    # What workers say

    def _worker(self, id: str, kind: WorkerKind) -> Worker:
        if not id:
            return Worker(id, kind, self._deadlines.now())  # it is known once it claims something
        worker = self._workers.get(id)
        if worker is None:
            worker = self._workers[id] = Worker(id, kind, self._deadlines.now())
        if kind is WorkerKind.OURS:
            worker.kind = kind
        return worker

    def _read(self, worker_id: str, task_id: TaskId, attempt: int | None, now: float) -> Worker | None:
        """A worker spoke of a task, so it has read what it was sent of it. Gives the worker if it can be sent more."""
        worker = self._workers.get(worker_id)
        if worker is None:
            worker = self._named(worker_id, task_id)
            if worker is None:
                return None
        worker.heard_at = now
        freed = None
        for stream in worker.streams:
            if stream.heard(task_id, attempt, now):
                freed = worker
        return freed

    def _named(self, worker_id: str, task_id: TaskId) -> Worker | None:
        """A worker that gave no name when it connected gives one when it claims."""
        entry = self._entries.get(task_id)
        worker = None if entry is None else next((each.worker for each in entry.out if not each.worker.id), None)
        if entry is not None and worker is not None:
            worker.id = worker_id
            self._workers[worker_id] = worker
            entry.names[worker_id] = None
        return worker

    def _heard(self, task_id: TaskId, entry: Entry | None, worker_id: str, attempt: int | None, now: float) -> Heard:
        if entry is None:
            given_up = self._given_up.get(task_id)
            is_holder = given_up is not None and given_up.holder == worker_id
            return Heard.IN_PROGRESS if is_holder else Heard.UNKNOWN
        if entry.claimant is None:
            if not self._may_claim(entry, worker_id, attempt):
                return Heard.ALREADY_CLAIMED
            self._claim(entry, self._worker(worker_id, WorkerKind.UPSTREAM), now)
            entry.claimed_attempt = attempt
        elif entry.claimant.id != worker_id:
            return Heard.ALREADY_CLAIMED
        entry.heard_at = now
        return Heard.IN_PROGRESS

    def _may_claim(self, entry: Entry, worker_id: str, attempt: int | None) -> bool:
        """Who this attempt was sent to. Where it was sent to nobody yet, who is at work on an earlier one: a worker
        that is connected, or that is not known here since it was sent that one by another engine."""
        if entry.names:
            return worker_id in entry.names and attempt in (None, entry.attempt)
        worker = self._workers.get(worker_id)
        return bool(worker.streams) if worker is not None else worker_id != entry.lost_by

    def _claim(self, entry: Entry, worker: Worker, now: float) -> None:
        queue = entry.queue
        self._take_out(entry)
        entry.claimant = worker
        entry.claimed_at = entry.heard_at = now
        worker.claimed[entry.id] = entry
        worker.peak = max(worker.peak, len(worker.claimed))
        queue.unclaimed.pop(entry, None)
        entry.end_wait()
        queue.claimed += 1
        self._deadlines.set(entry, entry.deadline())
        if entry.wants_only_credit or entry.queued.task.was_cut_off or not queue.is_served:
            entry.ring()
        self.pump(queue)

    def _answered(self, entry: Entry, outcome: Outcome, now: float) -> None:
        queue = entry.queue
        if entry.claimant is None and len(entry.out) == 1:
            (stream,) = entry.out
            if entry.id in stream.out:
                stream.heard(entry.id, None, now)
                stream.queue.place(stream)
        queue.ended.append(now)
        queue.finished += 1
        self._finish(entry, outcome)

    def _keep(self, task_id: TaskId, outcome: Outcome) -> Taken:
        given_up = self._given_up.get(task_id)
        if given_up is None or not isinstance(outcome, Succeeded):
            return Taken.UNKNOWN
        given_up.outcome = given_up.outcome or outcome
        return Taken.ACCEPTED

    # Ends

    def _take_out(self, entry: Entry) -> None:
        """Out of the line, and out of what is not on its way; what is stays with a worker until it speaks of it."""
        queue = entry.queue
        if entry.is_in_line:
            self._line_out(entry)
        if queue.overdue:
            queue.overdue.pop(entry, None)
        for stream in entry.out:
            if entry.id in stream.out:
                if not stream.withdraw(entry):
                    self._deadlines.set(stream, self._deadlines.now() + stream.patience_s)
                queue.place(stream)
        entry.out.clear()
        if entry.reserved is None:
            return
        reserved, entry.reserved = entry.reserved, None
        if reserved.is_open:
            reserved.unreserve()
            queue.place(reserved)

    def _finish(self, entry: Entry, outcome: Outcome) -> None:
        entry.outcome = outcome
        if self._entries.get(entry.id) is entry:
            del self._entries[entry.id]
        queue, worker = entry.queue, entry.claimant
        self._take_out(entry)
        entry.end_wait()
        if entry.due_at < inf:
            self._deadlines.drop(entry)
        if worker is None:
            queue.unclaimed.pop(entry, None)
        elif worker.claimed.get(entry.id) is entry:
            queue.claimed -= 1
            del worker.claimed[entry.id]
            self._forget_if_gone(worker)
            if worker.kind is WorkerKind.UPSTREAM:
                self.refresh(worker)
        entry.ring()
        for follower in entry.followers:
            follower.outcome = outcome
            follower.ring()
        if queue.line.length or queue.spare:
            self.pump(queue)

    def _withdraw(self, entry: Entry) -> None:
        self._tell_withdrawn(entry)
        self._finish(entry, Failed(ErrorCode.CANCELLED, f"task {entry.id} was withdrawn"))

    def _tell_withdrawn(self, entry: Entry) -> None:
        worker = entry.claimant
        if worker is not None and worker.kind is WorkerKind.OURS and worker.streams:
            next(iter(worker.streams)).tell(Withdrawn(entry.id, entry.attempt))

    def _replace(self, former: Entry, entry: Entry, now: float) -> None:
        """A later attempt while an earlier one is still known: whoever has it goes on, and both end together."""
        self._take_out(former)
        former.queue.unclaimed.pop(former, None)
        former.end_wait()
        entry.followers, former.followers = [former, *former.followers], []
        entry.names = dict(former.names)
        worker = former.claimant
        if worker is not None:
            former.queue.claimed -= 1
            former.claimant = None
            self._claim(entry, worker, now)
            entry.claimed_attempt = former.claimed_attempt or former.attempt
            entry.claimed_at, entry.heard_at = former.claimed_at, former.heard_at

    def _hand_back(self, entry: Entry, waiting: list[Entry]) -> None:
        """The latest of the attempts that are waited for has what this one had."""
        heir = self._entries[entry.id] = waiting[0]
        heir.queue.unclaimed[heir] = None
        self._replace(entry, heir, self._deadlines.now())
        heir.followers = waiting[1:]
        entry.outcome = Failed(ErrorCode.CANCELLED, f"task {entry.id} was withdrawn")
        self._deadlines.drop(entry)
        self._deadlines.set(heir, heir.deadline())
        heir.ring()
        self.pump(heir.queue)

    def _forget_if_gone(self, worker: Worker) -> None:
        if not worker.streams and not worker.claimed and self._workers.get(worker.id) is worker:
            del self._workers[worker.id]

    # Deadlines

    def _look_at_entry(self, entry: Entry) -> None:
        if entry.is_over:
            return
        now = self._deadlines.now()
        at = entry.deadline()
        if at <= now:
            self._give_up(entry, _reason(entry, now))
            return
        if not entry.is_claimed and entry.out:
            at = min(at, self._look_at_unclaimed(entry, now))
        self._deadlines.set(entry, at)

    def _look_at_wait(self, wait: Wait) -> None:
        """What is unclaimed after all the time that it might be: the oldest first."""
        now = self._deadlines.now()
        for entry in tuple(takewhile(lambda entry: entry.entered_at + wait.timeout_s <= now, wait.entries)):
            self._give_up(entry, _reason(entry, now))
        oldest = next(iter(wait.entries), None)
        if oldest is not None:
            self._deadlines.set(wait, oldest.entered_at + wait.timeout_s)

    def _look_at_unclaimed(self, entry: Entry, now: float) -> float:
        """Sent and not claimed: after a while an idle worker gets a copy, or whoever is next if no holder lives."""
        sent_at = max(entry.out.values())
        if now < sent_at + OVERDUE_S:
            return sent_at + OVERDUE_S
        if now < sent_at + SILENT_S and all(_will_tell(stream.worker, now) for stream in entry.out):
            return min(now + OVERDUE_S, sent_at + SILENT_S)
        queue = entry.queue
        for stream in entry.out:
            stream.mark_overdue(entry.id)
            self._deadlines.set(stream, now + stream.patience_s)
            queue.place(stream)
        queue.overdue[entry] = None
        if not entry.is_in_line and all(_is_suspect(stream.worker, now) for stream in entry.out):
            self._line_in(entry, is_back=True)
        self.pump(queue)
        return now + LOOK_AGAIN_S

    def _look_at_sent(self, stream: Stream) -> None:
        """What is sent and unclaimed: the oldest first."""
        now = self._deadlines.now()
        for entry, since in tuple(stream.out.values()):
            if since + OVERDUE_S > now:
                self._deadlines.set(stream.sending, since + OVERDUE_S)
                return
            if entry.id not in stream.overdue:
                self._look_at_entry(entry)

    def _look_at_stream(self, stream: Stream) -> None:
        if not stream.is_open or not stream.overdue:
            return
        now = self._deadlines.now()
        worker = stream.worker
        is_frozen = worker.kind is WorkerKind.OURS and now - worker.heard_at > SILENT_S
        if is_frozen or not _is_suspect(worker, now):
            self._deadlines.set(stream, now + stream.patience_s)
            return
        for task_id in tuple(stream.overdue):
            if task_id in stream.out:
                self._send_back(stream.out[task_id][0], stream)
        stream.forgive()
        self.refresh(worker)

    def _give_up(self, entry: Entry, reason: str) -> None:
        now = self._deadlines.now()
        worker = entry.claimant
        self._tell_withdrawn(entry)
        self._hold_back(entry, now)
        entry.queue.timed_out += 1
        self._given_up[entry.id] = _GivenUp(None if worker is None else worker.id, now + KEPT_S)
        oldest = next(iter(self._given_up))
        while len(self._given_up) > MOST_KEPT or self._given_up[oldest].until <= now:
            del self._given_up[oldest]
            oldest = next(iter(self._given_up))
        self._finish(entry, Failed(ErrorCode.TIMEOUT, reason))

    def _hold_back(self, entry: Entry, now: float) -> None:
        """A connected worker that fell silent gets nothing more until it is heard of, or for a while."""
        worker = entry.claimant
        if worker is None or entry.silence_ends() > now:
            return
        for stream in worker.streams:
            stream.overdue[entry.id] = None
            stream.queue.place(stream)
            self._deadlines.set(stream, now + stream.patience_s)

    def _warn(self, queue: Queue) -> None:
        if queue.lacks_since is None or queue.is_warned_of:
            return
        warned_at = queue.lacks_since + WARNED_AFTER_S
        if self._deadlines.now() < warned_at:
            self._deadlines.set(queue, warned_at)
            return
        queue.lacks_since = None
        if self.is_served_somewhere(queue) or not (queue.unclaimed or queue.is_wanted):
            return
        queue.is_warned_of = True
        waiting = f"{len(queue.unclaimed)} tasks wait in it" if queue.unclaimed else "steps wait for one"
        logger.warning("%s, and %s", queue.unserved, waiting)
        queue.ring()
        self.warned_of(queue.name)

    # Statistics

    def all(self) -> Sequence[Queue]:
        return tuple(self._queues.values())

    def age_s(self, entry: Entry) -> float:
        """How long a task has been in its queue."""
        return self._deadlines.now() - entry.entered_at

    def statistics(self) -> Sequence[QueueStatistics]:
        """Every queue, in the order they were configured."""
        now = self._deadlines.now()
        return [queue_statistics(queue, now) for queue in self._queues.values()]

    def workers(self) -> Sequence[WorkerStatistics]:
        """Every worker that is connected or has a task, in the order they came."""
        now = self._deadlines.now()
        return [worker_statistics(worker, now) for worker in self._workers.values()]


def _note_held_up(worker: Worker, held_up_s: float, stack: str | None) -> None:
    """Warn once of each time that a worker's event loop has no turn, as soon as it is known what holds it."""
    was_warned = worker.stack is not None
    worker.held_up_s = held_up_s
    worker.stack = (stack or worker.stack) if held_up_s else None
    if worker.stack is not None and not was_warned:
        logger.warning(
            "worker %r lives, but its event loop has had no turn for %.0f s; it keeps %s\n%s",
            worker.id,
            held_up_s,
            _tasks_of(worker),
            worker.stack,
        )


def _tasks_of(worker: Worker) -> str:
    """The first few by the names that a flow gives them."""
    tasks = [entry.queued.task for entry in worker.claimed.values()]
    named = [f"step {task.step_id!r} of run {task.run_id}" for task in tasks[:3]]
    more = f"{len(tasks) - len(named)} more" if len(tasks) > len(named) else ""
    return ", ".join(named + [more] * bool(more)) or "its tasks"


def _may_go_on(entry: Entry) -> bool:
    return entry.queue.is_served or entry.is_claimed or entry.is_over


def _is_stale(entry: Entry, attempt: int | None, worker_id: str | None) -> bool:
    """Whether a failure is of an attempt before the one that goes on."""
    if attempt is not None and attempt < (entry.claimed_attempt or entry.attempt):
        return True
    if entry.claimant is None:
        return attempt is None and entry.attempt > 1
    return worker_id is not None and entry.claimant.id != worker_id


def _will_tell(worker: Worker, now: float) -> bool:
    """Whether a worker says by itself what it begins and what it declines; one that is held up might not get a turn."""
    return worker.kind is WorkerKind.OURS and not worker.held_up_s and now - worker.heard_at <= SILENT_S


def _is_suspect(worker: Worker, now: float) -> bool:
    """A worker that has nothing to do and claims nothing, or that is not heard of; a busy one has no slot free."""
    return not worker.claimed or now - worker.heard_at > SILENT_S


def _reason(entry: Entry, now: float) -> str:
    queued = entry.queued
    if entry.claimant is None:
        return f"no worker claimed task {entry.id} in queue {queued.queue!r} within {queued.queue_timeout_s:g} s"
    limit_s = queued.execution_timeout_s
    if limit_s is not None and entry.claimed_at + limit_s <= now:
        return f"task {entry.id} took longer than {limit_s:g} s at worker {entry.claimant.id!r}"
    return f"worker {entry.claimant.id!r} fell silent while it had task {entry.id}"
