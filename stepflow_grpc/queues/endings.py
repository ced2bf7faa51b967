"""How an attempt ends: by its answer, by being withdrawn, refused or given up."""

from math import inf

from stepflow.records import ErrorCode, Failed, Outcome, TaskId
from stepflow_grpc.queues.distribution import Distribution
from stepflow_grpc.queues.entry import Entry
from stepflow_grpc.queues.given_up import GivenUp
from stepflow_grpc.queues.queue import QueueDeadlines
from stepflow_grpc.queues.records import Withdrawn, WorkerKind
from stepflow_grpc.queues.workers import Workers


class Endings:
    """Gives attempts their outcomes.

    Args:
        known: what is waited for, from which it takes what has ended.
    """

    def __init__(
        self, known: dict[TaskId, Entry], workers: Workers, distribution: Distribution, deadlines: QueueDeadlines
    ) -> None:
        self.given_up = GivenUp()
        self._known = known
        self._workers = workers
        self._distribution = distribution
        self._deadlines = deadlines

    def answer(self, entry: Entry, outcome: Outcome, now: float) -> None:
        queue = entry.queue
        if entry.claimant is None and len(entry.out) == 1:
            (stream,) = entry.out
            if entry.id in stream.out:
                stream.heard(entry.id, None, now)
                stream.queue.place(stream)
        queue.ended.append(now)
        queue.finished += 1
        _note_queued(entry, now)
        self._end(entry, outcome)

    def withdraw(self, entry: Entry) -> None:
        """Nobody wants it any more."""
        _tell_withdrawn(entry)
        self._end(entry, withdrawn(entry))

    def fail_if_refused(self, entry: Entry) -> bool:
        """End what no worker of its queue can take, once none that could is likely to come back. False: it goes on."""
        workers = entry.queue.workers if entry.refusals else ()
        if not workers or any(worker.id not in entry.refusals for worker in workers):
            return False
        looked_at = entry.queue.awaits_until(entry)
        if entry.queued.is_own and self._deadlines.now() < looked_at:
            self._deadlines.set(entry, looked_at)
            return False
        self._end(entry, next(reversed(entry.refusals.values())))
        return True

    def give_up(self, entry: Entry, reason: str) -> None:
        """End what took too long, or whose worker is gone."""
        now = self._deadlines.now()
        worker = entry.claimant
        _tell_withdrawn(entry)
        self._hold_back(entry, now)
        entry.queue.timed_out += 1
        self.given_up.add(entry.id, None if worker is None else worker.id, now)
        _note_queued(entry, now)
        self._end(entry, Failed(ErrorCode.TIMEOUT, reason))

    def _end(self, entry: Entry, outcome: Outcome) -> None:
        entry.outcome = outcome
        if self._known.get(entry.id) is entry:
            del self._known[entry.id]
        queue, worker = entry.queue, entry.claimant
        self._distribution.take_out(entry)
        entry.end_wait()
        if entry.due_at < inf:
            self._deadlines.drop(entry)
        if worker is None:
            queue.unclaimed.pop(entry, None)
        elif worker.claimed.get(entry.id) is entry:
            queue.claimed -= 1
            del worker.claimed[entry.id]
            self._workers.forget_if_gone(worker)
            if worker.kind is WorkerKind.UPSTREAM:
                self._distribution.refresh(worker)
        entry.ring()
        for follower in entry.followers:
            follower.outcome = outcome
            follower.ring()
        if queue.line.length or queue.spare:
            self._distribution.pump(queue)

    def _hold_back(self, entry: Entry, now: float) -> None:
        """A connected worker that fell silent gets nothing more until it is heard of, or for a while."""
        worker = entry.claimant
        if worker is None or entry.silence_ends() > now:
            return
        for stream in worker.streams:
            stream.overdue[entry.id] = None
            stream.queue.place(stream)
            self._deadlines.set(stream, now + stream.patience_s)


def withdrawn(entry: Entry) -> Failed:
    return Failed(ErrorCode.CANCELLED, f"task {entry.id} was withdrawn")


def _note_queued(entry: Entry, now: float) -> None:
    entry.ran_s = entry.running_s(now)
    note = entry.queued.note_queued
    if note is not None:
        note(entry.queued.task, now - entry.entered_at - entry.ran_s)


def _tell_withdrawn(entry: Entry) -> None:
    worker = entry.claimant
    if worker is not None and worker.kind is WorkerKind.OURS and worker.streams:
        next(iter(worker.streams)).tell(Withdrawn(entry.id, entry.attempt))
