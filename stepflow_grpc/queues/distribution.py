"""Which task goes to which worker, and which stand in line meanwhile."""

from itertools import islice
from math import inf

from stepflow_grpc.queues.entry import OVERDUE_S, Entry
from stepflow_grpc.queues.queue import Queue, QueueDeadlines
from stepflow_grpc.queues.stream import Stream, Worker

MOST_LOOKED_AT = 100
"""Of the tasks that are overdue, for each worker that is idle: those it can't take may be many."""


class Distribution:
    """Sends what can be sent."""

    def __init__(self, deadlines: QueueDeadlines) -> None:
        self._deadlines = deadlines

    def line_up(self, entry: Entry) -> None:
        """Stand in line, unless it is with a worker or over, or a later attempt is known."""
        if entry.is_in_line or entry.out or entry.claimant is not None or entry.is_replaced:
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

    def line_up_again(self, entry: Entry) -> None:
        """Stand in line where it stood, though it may be with a worker that is not heard of."""
        if not entry.is_in_line:
            self._line_in(entry, is_back=True)

    def leave_line(self, entry: Entry) -> None:
        if entry.is_in_line:
            entry.is_in_line = False
            entry.queue.line.remove(entry.run, entry.place)

    def give_credit_back(self, entry: Entry) -> None:
        """Leave the line, and free the worker that was kept for it."""
        self.leave_line(entry)
        stream, entry.reserved = entry.reserved, None
        if stream is not None and stream.is_open:
            stream.unreserve()
            self.refresh(stream.worker)

    def take_out(self, entry: Entry) -> None:
        """Out of the line, and out of what is not on its way; what is stays with a worker until it speaks of it."""
        queue = entry.queue
        if entry.is_in_line:
            self.leave_line(entry)
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

    def send_back(self, entry: Entry, stream: Stream) -> None:
        """A stream that a task was sent to is gone."""
        if entry.out.pop(stream, None) is None or entry.out or entry.is_claimed or entry.is_over:
            return
        entry.queue.overdue.pop(entry, None)
        if entry.queue.is_served:
            self.line_up_again(entry)

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

    def _copy_overdue(self, queue: Queue) -> None:
        if not queue.overdue:
            return
        for stream in tuple(queue.idle):
            first = islice(queue.overdue, MOST_LOOKED_AT)
            entry = next((entry for entry in first if stream.worker.id not in entry.names), None)
            if entry is not None:
                del queue.overdue[entry]
                self.leave_line(entry)
                self._send(entry, stream)

    def _line_in(self, entry: Entry, *, is_back: bool) -> None:
        entry.is_in_line = True
        entry.queue.line.add(entry.run, entry.place, entry, is_back=is_back)
