"""One named queue: who waits in it, and whose workers could take it."""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from math import inf
from typing import TypeAlias

import anyio

from stepflow_grpc.queues.bell import Bell, bells
from stepflow_grpc.queues.deadlines import Deadlines
from stepflow_grpc.queues.entry import Entry, Wait
from stepflow_grpc.queues.line import FairLine
from stepflow_grpc.queues.records import QueueFull, QueueLimits, WorkerKind
from stepflow_grpc.queues.stream import Sending, Stream, Worker

WARNED_AFTER_S = 30.0
"""A queue that steps wait for is warned of after so long without a worker: in the log, and by an event of each step."""

RATE_OVER = 100
"""How many of the last answers say how fast a queue drains."""

RETURNS_WITHIN_S = 30.0
"""How long a worker that left, or another like it, is waited for by tasks that the others of its queue can't take."""

_SHORTEST_S, _LONGEST_S = 1.0, 60.0


class Ticket:
    """Somebody waits for a worker that nothing of this engine needs."""

    __slots__ = ("granted", "stream")

    def __init__(self) -> None:
        self.granted = anyio.Event()
        self.stream: Stream | None = None


class Queue:
    """State alone; `TaskQueues` says what happens."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.limits = QueueLimits()
        self.line: FairLine[Entry] = FairLine()
        self.unclaimed: dict[Entry, None] = {}
        self.waits: dict[float, Wait] = {}  # of those unclaimed, by how long they may be
        self.claimed = 0
        self.overdue: dict[Entry, None] = {}
        self.spare: dict[Ticket, None] = {}
        self.streams: dict[Stream, None] = {}
        self.idle: OrderedDict[Stream, None] = OrderedDict()  # the next one first
        self.free: OrderedDict[Stream, None] = OrderedDict()  # not idle, and may be sent something ahead
        self.ended: deque[float] = deque(maxlen=RATE_OVER)
        self.finished = 0
        self.timed_out = 0
        self.is_wanted = False  # steps wait to hear which components its workers have
        self.left: dict[str, float] = {}  # the workers that went lately, and when
        self.is_known = False  # a worker has come
        self.lacks_since: float | None = None  # how long a worker has been waited for
        self.is_warned_of = False  # that was long
        self.trouble: str | None = None  # why it has no worker, where somebody knows
        self.due_at = inf
        self.served_elsewhere_until = 0.0  # another engine took a task of it lately
        self.prober: Entry | None = None  # looks whether another engine does
        self._make_bell: Callable[[], Bell] | None = None

    def make_bell(self) -> Bell:
        """For whoever waits for something of this queue, on the one loop that all of it happens on."""
        if self._make_bell is None:
            self._make_bell = bells()
        return self._make_bell()

    @property
    def is_served(self) -> bool:
        return bool(self.streams)

    @property
    def workers(self) -> "tuple[Worker, ...]":
        """Those that are connected."""
        return tuple({id(stream.worker): stream.worker for stream in self.streams}.values())

    def note_came(self, worker_id: str, now: float) -> None:
        """A worker is connected. The first one that comes to tasks is likely to be followed by those they are for."""
        self.left.pop(worker_id, None)
        if not self.is_known and self.unclaimed:
            self.note_left("", now)
        self.is_known = True

    def note_left(self, worker_id: str, now: float) -> None:
        """A worker is not connected any more."""
        self.left = {id: self.left[id] for id in self.left_lately(now)} | {worker_id: now}

    def left_lately(self, now: float) -> Sequence[str]:
        """The workers that may come back, or be replaced by others like them."""
        return [id for id, at in self.left.items() if at + RETURNS_WITHIN_S > now]

    def awaits_until(self, entry: Entry) -> float:
        """Until when a worker may come back that has not refused a task; one had it that its former engine gave out."""
        left = [at for id, at in self.left.items() if id not in entry.refusals]
        if entry.queued.task.was_cut_off:
            left.append(entry.entered_at)
        return max(left, default=-inf) + RETURNS_WITHIN_S

    @property
    def unserved(self) -> str:
        """What its tasks wait for while nobody serves it."""
        reason = f"no worker serves queue {self.name!r}"
        if self.is_warned_of:
            reason = f"no worker has served queue {self.name!r} for {WARNED_AFTER_S:g} s"
        return reason if self.trouble is None else f"{reason}: {self.trouble}"

    def place(self, stream: Stream) -> None:
        """Put a stream among those that can be sent something, behind the others like it."""
        self.idle.pop(stream, None)
        self.free.pop(stream, None)
        if stream.is_free:
            (self.idle if stream.is_idle else self.free)[stream] = None

    def place_sent(self, stream: Stream) -> None:
        """The same after one more was sent by it."""
        if stream.credit <= 0 or stream not in self.idle or stream.worker.kind is not WorkerKind.OURS:
            self.place(stream)
        elif len(self.idle) > 1:
            self.idle.move_to_end(stream)

    def next_stream(self) -> Stream | None:
        for streams in (self.idle, self.free):
            for stream in streams:
                return stream
        return None

    def full(self, now: float) -> QueueFull | None:
        length = len(self.unclaimed)
        if length < self.limits.max_length:
            return None
        retry_s = _LONGEST_S
        if len(self.ended) > 1 and now > self.ended[0]:
            too_many = length - self.limits.max_length + 1
            retry_s = too_many * (now - self.ended[0]) / len(self.ended)
        return QueueFull(self.name, length, self.limits.max_length, min(max(retry_s, _SHORTEST_S), _LONGEST_S))

    def ring(self) -> None:
        """Let everybody look who waits in it outside the line."""
        for entry in tuple(self.unclaimed):
            entry.ring()


QueueDeadlines: TypeAlias = Deadlines[Entry | Stream | Sending | Wait | Queue]
"""Of all that is looked after."""
