"""Whose a task is while it is being done."""

from stepflow_grpc.queues.distribution import Distribution
from stepflow_grpc.queues.entry import Entry
from stepflow_grpc.queues.queue import QueueDeadlines
from stepflow_grpc.queues.records import Heard, WorkerKind
from stepflow_grpc.queues.stream import Worker
from stepflow_grpc.queues.workers import Workers


class Claims:
    """A task is claimed once, by a worker that it was sent to or that has had it all along."""

    def __init__(self, workers: Workers, distribution: Distribution, deadlines: QueueDeadlines) -> None:
        self._workers = workers
        self._distribution = distribution
        self._deadlines = deadlines

    def heard(self, entry: Entry, worker_id: str, attempt: int | None, now: float) -> Heard:
        """A worker says that it begins with a task, or is at work on it."""
        if entry.claimant is None:
            if not self._may_claim(entry, worker_id, attempt):
                return Heard.ALREADY_CLAIMED
            self._claim(entry, self._workers.meet(worker_id, WorkerKind.UPSTREAM), now)
            entry.claimed_attempt = attempt
        elif entry.claimant.id != worker_id:
            return Heard.ALREADY_CLAIMED
        entry.heard_at = now
        return Heard.IN_PROGRESS

    def adopt(self, entry: Entry, worker: Worker, now: float) -> None:
        """What a worker has, whichever attempt that is, becomes the execution of this one, if it may."""
        if not entry.is_with_somebody and self._may_claim(entry, worker.id, None):
            self._take_over(entry, worker, now)

    def give_to_holder(self, entry: Entry, now: float) -> None:
        """A task that an engine gave out which is gone: its worker may be connected here already."""
        for worker in self._workers.all():
            if entry.id in worker.has and worker.streams and not entry.is_with_somebody:
                self._take_over(entry, worker, now)

    def hand_on(self, former: Entry, entry: Entry, now: float) -> None:
        """Another attempt is waited for instead: whoever has the former one goes on, and both end together."""
        self._distribution.take_out(former)
        former.queue.unclaimed.pop(former, None)
        former.end_wait()
        former.is_replaced, entry.is_replaced = True, False
        entry.followers, former.followers = [former, *former.followers], []
        entry.names = dict(former.names)
        worker = former.claimant
        if worker is not None:
            former.queue.claimed -= 1
            former.claimant = None
            self._claim(entry, worker, now)
            entry.claimed_attempt = former.claimed_attempt or former.attempt
            entry.claimed_at, entry.heard_at = former.claimed_at, former.heard_at

    def _take_over(self, entry: Entry, worker: Worker, now: float) -> None:
        self._claim(entry, worker, now)
        entry.claimed_attempt = 1

    def _may_claim(self, entry: Entry, worker_id: str, attempt: int | None) -> bool:
        """Who this attempt was sent to. Where it was sent to nobody yet, who is at work on an earlier one: a worker
        that is connected, or that is not known here since it was sent that one by another engine."""
        if entry.names:
            return worker_id in entry.names and attempt in (None, entry.attempt)
        worker = self._workers.get(worker_id)
        return bool(worker.streams) if worker is not None else worker_id != entry.lost_by

    def _claim(self, entry: Entry, worker: Worker, now: float) -> None:
        queue = entry.queue
        self._distribution.take_out(entry)
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
        self._distribution.pump(queue)
