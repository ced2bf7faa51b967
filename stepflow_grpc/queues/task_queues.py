"""The queues of one engine: tasks go in, workers pull them, claim them and answer."""

from collections.abc import Collection, Iterable, Sequence
from math import inf

from stepflow.protocols import Clock
from stepflow.records import ErrorCode, Failed, Json, Outcome, Task, TaskId
from stepflow_grpc.queues.absence import Absence
from stepflow_grpc.queues.claims import Claims
from stepflow_grpc.queues.deadlines import Deadlines
from stepflow_grpc.queues.distribution import Distribution
from stepflow_grpc.queues.endings import Endings, withdrawn
from stepflow_grpc.queues.entry import SILENT_S, Entry, Wait
from stepflow_grpc.queues.queue import Queue, QueueDeadlines
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
    WorkerKind,
    WorkerReport,
    WorkerStatistics,
)
from stepflow_grpc.queues.statistics import queue_statistics
from stepflow_grpc.queues.stream import Stream, Worker
from stepflow_grpc.queues.watch import Watch
from stepflow_grpc.queues.workers import Workers, note_held_up


class TaskQueues:
    """Named queues over one clock. Everything but waiting is plain calls on one event loop.

    `run` looks after deadlines and has to run as long as the queues are used.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._queues: dict[str, Queue] = {}
        self._entries: dict[TaskId, Entry] = {}
        self._place = 0
        self._deadlines: QueueDeadlines = Deadlines(clock)
        self._workers = Workers(self._deadlines)
        self.distribution = Distribution(self._deadlines)
        self.absence = Absence(self._deadlines)
        self._claims = Claims(self._workers, self.distribution, self._deadlines)
        self._endings = Endings(self._entries, self._workers, self.distribution, self._deadlines)
        self._watch = Watch(self._deadlines, self.distribution, self._endings, self.absence)

    async def run(self) -> None:
        """Give up what took too long, and move on what nobody claims. Until it is cancelled."""
        await self._watch.run()

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

    def left_lately(self, name: str) -> Sequence[str]:
        """The workers that left a queue so lately that they, or others like them, may come back."""
        queue = self._queues.get(name)
        return () if queue is None else queue.left_lately(self._deadlines.now())

    def want(self, name: str) -> None:
        """A step waits to hear which components the workers of a queue have."""
        queue = self.configure(name)
        queue.is_wanted = True
        self.absence.note(queue)

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
        worker = self._workers.meet(worker_id, kind)
        worker.heard_at = self._deadlines.now()
        stream = Stream(self, queue, worker, credit)
        was_served = queue.is_served
        worker.streams[stream] = None
        queue.streams[stream] = None
        queue.note_came(worker_id, self._deadlines.now())
        queue.place(stream)
        queue.is_warned_of = queue.is_wanted = False
        queue.lacks_since = None
        if not was_served:
            queue.ring()
        self.distribution.pump(queue)
        return stream

    def disconnect(self, stream: Stream) -> None:
        """Close a stream: what its worker had not claimed stands in line again, where it stood."""
        if not stream.is_open:
            return
        queue, worker = stream.queue, stream.worker
        left = stream.close()
        for streams in (queue.streams, queue.idle, queue.free, worker.streams):
            streams.pop(stream, None)
        now = self._deadlines.now()
        if worker not in queue.workers:
            queue.note_left(worker.id, now)
        if not worker.streams:
            worker.gone_at = now
            for entry in worker.claimed.values():
                self._deadlines.set(entry, entry.deadline())
        for entry in left:
            self.distribution.send_back(entry, stream)
        for entry in tuple(queue.overdue):
            self._endings.fail_if_refused(entry)
        if not queue.is_served:
            self._wait_for_another(queue)
        self._workers.forget_if_gone(worker)
        self.distribution.pump(queue)

    def _wait_for_another(self, queue: Queue) -> None:
        """The last worker of a queue is gone."""
        for entry in queue.unclaimed:
            self.distribution.leave_line(entry)
        if queue.unclaimed:
            self.absence.note(queue)
        queue.ring()

    def decline(self, stream: Stream, task_ids: Sequence[TaskId]) -> None:
        """What a worker was sent and won't begin is for others, at its old place."""
        stream.worker.heard_at = self._deadlines.now()
        for task_id in task_ids:
            entry = stream.drop(task_id)
            if entry is not None:
                self.distribution.send_back(entry, stream)
        self.distribution.refresh(stream.worker)

    def refuse(self, stream: Stream, task_id: TaskId, outcome: Failed) -> None:
        """What a worker can't take is for the others of its queue; where there is none, that is the outcome."""
        entry = stream.drop(task_id)
        if entry is None or entry.out.pop(stream, None) is None:
            return
        entry.refusals = {**entry.refusals, stream.worker.id: outcome}
        entry.names = dict.fromkeys([*entry.refusals, *(each.worker.id for each in entry.out)])
        entry.queue.overdue[entry] = None
        self._endings.fail_if_refused(entry)
        self.distribution.refresh(stream.worker)

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
            note_held_up(worker, held_up_s, stack)
        for stream in worker.streams:
            stream.go_on()
        return True

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
            if entry is not None:
                self._claims.adopt(entry, worker, now)
        for entry in tuple(worker.claimed.values()):
            if entry.id not in has and now - entry.heard_at > SILENT_S:
                reason = f"worker {worker_id!r} does not have task {entry.id}, which it had claimed"
                self._endings.give_up(entry, reason)

    def task(self, task_id: TaskId) -> Task | None:
        """What is waited for under this id; None: nothing."""
        entry = self._entries.get(task_id)
        return None if entry is None else entry.queued.task

    def worker_of(self, task_id: TaskId) -> str | None:
        """The worker that claimed a task, or to which alone it was sent."""
        entry = self._entries.get(task_id)
        if entry is None:
            return None
        names = [entry.claimant.id] if entry.claimant is not None else list(entry.names)
        return names[0] if len(names) == 1 else None

    def is_sent_to(self, task_id: TaskId, worker_id: str) -> bool:
        """Whether a task went to a worker through a stream of this engine, or is claimed here by somebody."""
        entry = self._entries.get(task_id)
        return entry is not None and (entry.claimant is not None or worker_id in entry.names)

    def heartbeat(self, task_id: TaskId, worker_id: str, *, attempt: int | None = None) -> Heard:
        """A worker begins with a task, or is at work on it."""
        now = self._deadlines.now()
        entry = self._entries.get(task_id)
        freed = self._workers.spoke_of(task_id, entry, worker_id, attempt, now)
        if entry is not None:
            heard = self._claims.heard(entry, worker_id, attempt, now)
        else:
            was_given_up = self._endings.given_up.was_with(task_id, worker_id)
            heard = Heard.IN_PROGRESS if was_given_up else Heard.UNKNOWN
        if freed is not None:
            self.distribution.refresh(freed)
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
        freed = None
        if worker_id is not None:
            freed = self._workers.spoke_of(task_id, entry, worker_id, attempt, now)
        if entry is None:
            taken = self._answered_late(task_id, outcome, worker_id)
        elif type(outcome) is Failed and _is_stale(entry, attempt, worker_id):
            taken = Taken.STALE
        else:
            self._endings.answer(entry, outcome, now)
            taken = Taken.ACCEPTED
        if freed is not None:
            self.distribution.refresh(freed)
        return taken

    def _answered_late(self, task_id: TaskId, outcome: Outcome, worker_id: str | None) -> Taken:
        worker = None if worker_id is None else self._workers.get(worker_id)
        if worker is not None:
            worker.has.discard(task_id)
        return Taken.ACCEPTED if self._endings.given_up.keep(task_id, outcome) else Taken.UNKNOWN

    def cancel(self, task_id: TaskId) -> bool:
        """End a task that nobody wants any more. False: there is none."""
        entry = self._entries.get(task_id)
        if entry is None:
            return False
        self._endings.withdraw(entry)
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
                if entry.may_go_on():
                    self.distribution.line_up(entry)
                    await entry.changed()
                else:
                    await self._wait_served(entry, waiting)
            return entry.outcome
        finally:
            self.leave(entry)

    async def perform(self, entry: Entry, *, patience_s: float) -> Outcome:
        """What comes of an entered task, which may have a worker kept for it.

        UNREACHABLE when the queue has had no worker for so long: somebody else may have one.
        """
        try:
            while entry.outcome is None:
                if entry.may_go_on():
                    self.distribution.line_up(entry)
                    await entry.changed()
                    continue
                with self.clock.timeout(patience_s):
                    await entry.changed()
                if not entry.may_go_on():
                    return Failed(ErrorCode.UNREACHABLE, f"no worker serves queue {entry.queue.name!r} any more")
            return entry.outcome
        finally:
            self.leave(entry)

    async def settle(self, entry: Entry) -> None:
        """Leave a task that an engine gave out which is gone to the worker that has it: so long that one may be silent.

        Returns once it is claimed or over, or nobody was heard of.
        """
        with self.clock.timeout(SILENT_S):
            while not entry.is_with_somebody:
                await entry.changed()

    async def _wait_served(self, entry: Entry, waiting: Waiting) -> None:
        """Return when a worker came, or the task is claimed or over without."""
        while not entry.may_go_on():
            reason = entry.queue.unserved
            async with waiting(entry.queued.task, reason):
                while not entry.may_go_on() and entry.queue.unserved == reason:
                    await entry.changed()

    def enter(self, queued: QueuedTask) -> Entry:
        """Make a task known, outside the line. `leave` has to follow."""
        now = self._deadlines.now()
        queue = self._queues.get(queued.queue) or self.configure(queued.queue)
        self._place += 1
        entry = Entry(queued, queue, self._place, now)
        entry.lost_by, entry.outcome = self._endings.given_up.take(entry.id)
        if entry.outcome is not None:
            return entry
        former = self._entries.get(entry.id)
        self._entries[entry.id] = entry
        queue.unclaimed[entry] = None
        if former is not None:
            self._claims.hand_on(former, entry, now)
            self._deadlines.set(entry, entry.deadline())
        elif queued.queue_timeout_s is not None:
            self._limit_wait(entry, queued.queue_timeout_s)
        if queued.task.was_cut_off:
            self._claims.give_to_holder(entry, now)
        if not queue.streams:
            self.absence.note(queue)
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

    def leave(self, entry: Entry) -> None:
        """Nobody waits for this attempt any more; whoever waits for an earlier one goes on to."""
        if entry.outcome is not None:
            return
        waiting = [one for one in entry.followers if not one.is_over]
        if waiting and not entry.is_replaced:
            self._hand_back(entry, waiting)
        else:
            self._endings.withdraw(entry)

    def _hand_back(self, entry: Entry, waiting: list[Entry]) -> None:
        """The latest of the attempts that are waited for has what this one had."""
        heir = self._entries[entry.id] = waiting[0]
        heir.queue.unclaimed[heir] = None
        self._claims.hand_on(entry, heir, self._deadlines.now())
        heir.followers = waiting[1:]
        entry.outcome = withdrawn(entry)
        self._deadlines.drop(entry)
        self._deadlines.set(heir, heir.deadline())
        heir.ring()
        self.distribution.pump(heir.queue)

    # How it is

    def worker(self, worker_id: str) -> Worker | None:
        """The worker of this id, if it is connected or has a task."""
        return self._workers.get(worker_id)

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
        return self._workers.statistics()


def _is_stale(entry: Entry, attempt: int | None, worker_id: str | None) -> bool:
    """Whether a failure is of an attempt before the one that goes on."""
    if attempt is not None and attempt < (entry.claimed_attempt or entry.attempt):
        return True
    if entry.claimant is None:
        return attempt is None and entry.attempt > 1
    return worker_id is not None and entry.claimant.id != worker_id
