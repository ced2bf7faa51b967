"""Runs kept in this process. Everything a durable store does, but for outliving the process."""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from itertools import islice

from msgspec import to_builtins
from msgspec.structs import replace

from stepflow.protocols import PAGE
from stepflow.records import (
    Blob,
    BlobId,
    BlobType,
    Committed,
    Entries,
    Failed,
    ItemResult,
    Lease,
    LeaseLost,
    ParentLink,
    RunId,
    RunRecord,
    RunStatus,
    Succeeded,
    Verdict,
    Write,
    blob_id,
)


class _Row:
    """One packed row of the journal."""

    __slots__ = ("entries", "has_inputs", "max_item")

    def __init__(self, write: Write) -> None:
        self.entries = Entries(write.first, write.count, write.payload)
        self.has_inputs = write.has_inputs
        self.max_item = write.max_item


class _StoredRun:
    __slots__ = ("epoch", "forgotten", "last", "order", "record", "results", "rows")

    def __init__(self, record: RunRecord, epoch: int) -> None:
        self.record = record
        self.epoch = epoch
        self.last = 0  # the position of the newest entry
        self.rows: list[_Row] = []
        self.results: dict[int, ItemResult] = {}
        self.order: deque[int] = deque()  # items in the order they ended
        self.forgotten = 0  # how many were dropped from the head of `order`


class MemoryBackend:
    """The store protocols over dictionaries.

    Args:
        keep_events: keep entries that a checkpoint replaced, for tests that read whole journals.
        keep_runs: how many root runs that have ended are kept, with their sub-runs; older ones are dropped.
        keep_s: but none within so many seconds of its end, so that whoever waits for it can still read it.
    """

    def __init__(self, *, keep_events: bool = False, keep_runs: int = 10_000, keep_s: float = 60.0) -> None:
        self._runs: dict[RunId, _StoredRun] = {}
        self._roots: list[RunId] = []
        self._children: dict[ParentLink, RunId] = {}
        self._keys: dict[str, RunId] = {}
        self._blobs: dict[BlobId, Blob] = {}
        self._keep_events = keep_events
        self._keep_runs = keep_runs
        self._keep_s = keep_s
        self._ended: deque[RunRecord] = deque()
        self._trees: dict[RunId, dict[RunId, None]] = {}

    @property
    def journal(self) -> "MemoryBackend":
        return self

    @property
    def runs(self) -> "MemoryBackend":
        return self

    @property
    def is_durable(self) -> bool:
        return False

    @property
    def owners(self) -> "MemoryBackend":
        return self

    @property
    def blobs(self) -> "_MemoryBlobs":
        return _MemoryBlobs(self._blobs)

    async def __aenter__(self) -> "MemoryBackend":
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        return [self._store(write) for write in writes]

    async def claim(self, owner: str, *, root_id: RunId | None = None) -> Sequence[tuple[RunRecord, Lease]]:
        claimed = []
        for run in self._runs.values():
            if not run.record.status.is_terminal and root_id in (None, run.record.root_id):
                run.epoch += 1
                claimed.append((run.record, Lease(owner, run.epoch)))
        return claimed

    def _store(self, write: Write) -> Verdict:
        run = self._runs.get(write.run_id)
        if run is None:
            if write.new is None:
                return LeaseLost(0)
            run = self._insert(write.new, write.lease.epoch)
        if write.lease.epoch < run.epoch:
            return LeaseLost(run.epoch)
        run.epoch = write.lease.epoch
        if write.first <= run.last:
            return Committed()
        if write.is_checkpoint and not self._keep_events:
            low_water = write.min_item
            run.rows[1:] = [row for row in run.rows[1:] if row.has_inputs and row.max_item >= low_water]
        run.rows.append(_Row(write))
        run.last = write.first + write.count - 1
        for result in write.results:
            if result.index not in run.results:
                run.results[result.index] = result
                run.order.append(result.index)
        self._change(run, write)
        return Committed()

    def _insert(self, record: RunRecord, epoch: int) -> _StoredRun:
        run = self._runs[record.id] = _StoredRun(record, epoch)
        self._trees.setdefault(record.root_id, {})[record.id] = None
        if record.parent is None:
            insort(self._roots, record.id)
        else:
            self._children[record.parent] = record.id
        if record.key is not None:
            self._keys[record.key] = record.id
        return run

    def _change(self, run: _StoredRun, write: Write) -> None:
        change = write.change
        if change is None:
            return
        new = {
            name: value
            for name in ("status", "ended_at", "total", "succeeded", "failed", "error")
            if (value := getattr(change, name)) is not None
        }
        run.record = replace(run.record, **new)
        if change.status is not None and change.status.is_terminal and run.record.parent is None:
            self._ended.append(run.record)
            while len(self._ended) > self._keep_runs and self._is_old(self._ended[0], run.record):
                self._drop(self._ended.popleft().id)

    def _is_old(self, record: RunRecord, newest: RunRecord) -> bool:
        return (newest.ended_at or 0.0) - (record.ended_at or 0.0) >= self._keep_s

    def _drop(self, root_id: RunId) -> None:
        for run_id in self._trees.pop(root_id):
            record = self._runs.pop(run_id).record
            if record.parent is not None and self._children.get(record.parent) == run_id:
                del self._children[record.parent]
            if record.key is not None and self._keys.get(record.key) == run_id:
                del self._keys[record.key]
        del self._roots[bisect_left(self._roots, root_id)]

    async def read(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        run = self._runs.get(run_id)
        rows = run.rows if run is not None else []
        begin = bisect_right(rows, after, key=lambda row: row.entries.first + row.entries.count - 1)
        return [row.entries for row in rows[begin : begin + limit]]

    async def history(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        return await self.read(run_id, after=after, limit=limit)

    async def get(self, run_id: RunId) -> RunRecord | None:
        run = self._runs.get(run_id)
        return run.record if run is not None else None

    async def find(self, prefix: str) -> Sequence[RunId]:
        if prefix == "last":
            return self._roots[-1:]
        return [run_id for run_id in self._roots if run_id.startswith(prefix)][:2]

    async def find_child(self, parent: ParentLink) -> RunRecord | None:
        run_id = self._children.get(parent)
        return None if run_id is None else self._runs[run_id].record

    async def find_key(self, key: str) -> RunRecord | None:
        run_id = self._keys.get(key)
        return None if run_id is None else self._runs[run_id].record

    async def list(
        self,
        *,
        status: RunStatus | None = None,
        flow_name: str | None = None,
        root_id: RunId | None = None,
        parent_id: RunId | None = None,
        roots_only: bool = False,
        limit: int = 100,
        before: RunId | None = None,
    ) -> Sequence[RunRecord]:
        found = [
            run.record
            for run in self._runs.values()
            if (status is None or run.record.status is status)
            and (flow_name is None or run.record.flow_name == flow_name)
            and (root_id is None or run.record.root_id == root_id)
            and (parent_id is None or (run.record.parent is not None and run.record.parent.run_id == parent_id))
            and (not roots_only or run.record.parent is None)
            and (before is None or run.record.id < before)
        ]
        return sorted(found, key=lambda record: record.id, reverse=True)[:limit]

    async def results(self, run_id: RunId, *, after: int = -1, limit: int = PAGE) -> Sequence[ItemResult]:
        run = self._runs.get(run_id)
        if run is None:
            return []
        found: list[ItemResult] = []
        index = after + 1
        while len(found) < limit and (result := run.results.get(index)) is not None:
            found.append(_own(result))
            index += 1
        if len(found) < limit and len(run.results) > len(found):
            beyond = sorted(place for place in run.results if place > index)
            found += [_own(run.results[place]) for place in beyond[: limit - len(found)]]
        return found

    async def completed(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[tuple[int, ItemResult]]:
        run = self._runs.get(run_id)
        if run is None:
            return []
        begin = max(0, after - run.forgotten)
        items = list(islice(run.order, begin, begin + limit))
        return [(run.forgotten + begin + place, _own(run.results[item])) for place, item in enumerate(items, 1)]

    async def forget_results(self, run_id: RunId, *, through: int) -> None:
        run = self._runs.get(run_id)
        if run is None:
            return
        for index in [index for index in run.results if index <= through]:
            del run.results[index]
        kept = [index for index in run.order if index > through]
        run.forgotten += len(run.order) - len(kept)
        run.order = deque(kept)


def _own(result: ItemResult) -> ItemResult:
    """The result with containers of its own: the reader may change them, and what is stored stays as it is."""
    outcome = result.outcome
    if isinstance(outcome, Failed):
        return ItemResult(result.index, replace(outcome, data=to_builtins(outcome.data)))
    if isinstance(outcome.output, (dict, list)):
        return ItemResult(result.index, Succeeded(to_builtins(outcome.output)))
    return result


class _MemoryBlobs:
    def __init__(self, blobs: dict[BlobId, Blob]) -> None:
        self._blobs = blobs

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        id = blob_id(content)
        self._blobs.setdefault(id, Blob(id, bytes(content), type, filename))
        return id

    async def get(self, blob_id: BlobId) -> Blob | None:
        return self._blobs.get(blob_id)
