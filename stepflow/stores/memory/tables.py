"""What a memory store holds, and how its parts hang together."""

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Iterable

from stepflow.protocols import Clock
from stepflow.records import (
    Answer,
    EngineRecord,
    Entries,
    ItemResult,
    Lease,
    Message,
    Offer,
    ParentLink,
    RunId,
    RunRecord,
    TaskId,
    Write,
)
from stepflow.stores.memory.signals import MemorySignals


class Row:
    """One packed row of the journal."""

    __slots__ = ("entries", "has_inputs", "max_item", "min_item")

    def __init__(self, write: Write) -> None:
        self.entries = Entries(write.first, write.count, write.payload)
        self.has_inputs = write.has_inputs
        self.min_item = write.min_item
        self.max_item = write.max_item


class StoredRun:
    __slots__ = ("forgotten", "last", "lease", "order", "record", "results", "rows")

    def __init__(self, record: RunRecord, lease: Lease) -> None:
        self.record = record
        self.lease = lease
        self.last = 0  # the position of the newest entry
        self.rows: list[Row] = []
        self.results: dict[int, ItemResult] = {}
        self.order: deque[int] = deque()  # items in the order they ended
        self.forgotten = 0  # how many were dropped from the head of `order`


class StoredEngine:
    __slots__ = ("expires_at", "record", "ttl_s")

    def __init__(self, record: EngineRecord, ttl_s: float) -> None:
        self.record = record
        self.ttl_s = ttl_s
        self.expires_at: float | None = None


class StoredOffer:
    __slots__ = ("answer", "answered", "claimed_by", "offer", "offered_by")

    def __init__(self, offer: Offer, offered_by: str) -> None:
        self.offer = offer
        self.offered_by = offered_by
        self.claimed_by: str | None = None
        self.answer: Answer | None = None
        self.answered = 0  # place among the answers


class Tables:
    """Runs and whatever belongs to them, with the indexes that find them."""

    def __init__(self, clock: Clock, *, is_shared: bool) -> None:
        self.clock = clock
        self.is_shared = is_shared
        self.signals = MemorySignals(clock)
        self.runs: dict[RunId, StoredRun] = {}
        self.roots: list[RunId] = []
        self.trees: dict[RunId, dict[RunId, None]] = {}
        self.unfinished: dict[RunId, dict[RunId, None]] = {}  # of each tree that has any
        self.children: dict[ParentLink, RunId] = {}
        self.keys: dict[str, list[RunId]] = {}  # root runs of each key, newest last
        self.ended: OrderedDict[RunId, float] = OrderedDict()  # root runs, in the order they ended
        self.engines: dict[str, StoredEngine] = {}
        self.messages: dict[str, Message] = {}
        self.offers: dict[TaskId, StoredOffer] = {}
        self.announced: dict[str, dict[str, bytes]] = {}  # by queue, then engine

    def insert(self, record: RunRecord, lease: Lease) -> StoredRun:
        run = self.runs[record.id] = StoredRun(record, lease)
        self.trees.setdefault(record.root_id, {})[record.id] = None
        self.unfinished.setdefault(record.root_id, {})[record.id] = None
        if record.parent is not None:
            self.children[record.parent] = record.id
            return run
        insort(self.roots, record.id)
        if record.key is not None:
            self.keys.setdefault(record.key, []).append(record.id)
        return run

    def end(self, record: RunRecord) -> None:
        """A run has ended: nobody can claim it any more, and who waits for it is woken."""
        unfinished = self.unfinished.get(record.root_id, {})
        unfinished.pop(record.id, None)
        if not unfinished:
            self.unfinished.pop(record.root_id, None)
        if record.parent is None:
            self.ended[record.id] = record.ended_at or 0.0
        self.signals.send_ended(record.id)

    def drop(self, root_id: RunId) -> None:
        """Forget a root run that has ended, and all that belongs to it."""
        del self.ended[root_id]
        self.unfinished.pop(root_id, None)
        members = self.trees.pop(root_id)
        for run_id in members:
            record = self.runs.pop(run_id).record
            if record.parent is not None and self.children.get(record.parent) == run_id:
                del self.children[record.parent]
            elif record.parent is None and record.key is not None:
                self._drop_key(record.key, run_id)
        del self.roots[bisect_left(self.roots, root_id)]
        self._drop_traffic(members)

    def _drop_key(self, key: str, run_id: RunId) -> None:
        same = self.keys[key]
        same.remove(run_id)
        if not same:
            del self.keys[key]

    def _drop_traffic(self, members: Iterable[RunId]) -> None:
        if not self.messages and not self.offers:
            return
        for id in [message.id for message in self.messages.values() if message.run_id in members]:
            del self.messages[id]
        for task_id in [one.offer.task_id for one in self.offers.values() if one.offer.run_id in members]:
            del self.offers[task_id]

    def owner_of(self, run_id: RunId) -> str | None:
        run = self.runs.get(run_id)
        return None if run is None else run.lease.owner

    def is_alive(self, owner: str) -> bool:
        engine = self.engines.get(owner)
        return engine is not None and (engine.expires_at is None or self.clock.now() < engine.expires_at)
