"""What is looked after: silence, and limits of time."""

from itertools import takewhile

from stepflow_grpc.queues.absence import Absence
from stepflow_grpc.queues.distribution import Distribution
from stepflow_grpc.queues.endings import Endings
from stepflow_grpc.queues.entry import OVERDUE_S, SILENT_S, Entry, Wait
from stepflow_grpc.queues.queue import QueueDeadlines
from stepflow_grpc.queues.records import WorkerKind
from stepflow_grpc.queues.stream import Sending, Stream, Worker

LOOK_AGAIN_S = 1.0
"""How often to look after a task that is sent and stays unclaimed."""


class Watch:
    """Gives up what took too long, moves on what nobody claims, and warns of queues without a worker."""

    def __init__(
        self, deadlines: QueueDeadlines, distribution: Distribution, endings: Endings, absence: Absence
    ) -> None:
        self._deadlines = deadlines
        self._distribution = distribution
        self._endings = endings
        self._absence = absence

    async def run(self) -> None:
        """Until it is cancelled."""
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
                    self._absence.look(watched)

    def _look_at_entry(self, entry: Entry) -> None:
        if entry.is_over:
            return
        now = self._deadlines.now()
        at = entry.deadline()
        if at <= now:
            self._endings.give_up(entry, _reason(entry, now))
            return
        if entry.refusals and not entry.is_claimed and self._endings.fail_if_refused(entry):
            return
        if not entry.is_claimed and entry.out:
            at = min(at, self._look_at_unclaimed(entry, now))
        self._deadlines.set(entry, at)

    def _look_at_wait(self, wait: Wait) -> None:
        """What is unclaimed after all the time that it might be: the oldest first."""
        now = self._deadlines.now()
        for entry in tuple(takewhile(lambda entry: entry.entered_at + wait.timeout_s <= now, wait.entries)):
            self._endings.give_up(entry, _reason(entry, now))
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
        if all(_is_suspect(stream.worker, now) for stream in entry.out):
            self._distribution.line_up_again(entry)
        self._distribution.pump(queue)
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
                self._distribution.send_back(stream.out[task_id][0], stream)
        stream.forgive()
        self._distribution.refresh(worker)


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
