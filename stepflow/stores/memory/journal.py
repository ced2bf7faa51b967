"""The journals of a memory store."""

from bisect import bisect_right
from collections.abc import Sequence

from msgspec.structs import replace

from stepflow.protocols import PAGE
from stepflow.records import Committed, Entries, KeyTaken, LeaseLost, RunId, RunRecord, Verdict, Write
from stepflow.stores.memory.tables import Row, StoredRun, Tables

_COMMITTED = Committed()


class MemoryJournal:
    def __init__(self, tables: Tables, *, keep_events: bool, keep_runs: int, keep_s: float) -> None:
        self._tables = tables
        self._keep_events = keep_events
        self._keep_runs = keep_runs
        self._keep_s = keep_s

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        return [self._store(write) for write in writes]

    def _store(self, write: Write) -> Verdict:
        tables = self._tables
        run = tables.runs.get(write.run_id)
        epoch = 0 if run is None else run.lease.epoch
        if write.lease.owner not in tables.engines:
            return LeaseLost(epoch)
        if run is None:
            if write.new is None:
                return LeaseLost(epoch)
            holder = self._holder(write.new)
            if holder is not None and holder != write.supersedes:
                return KeyTaken(holder)
            run = tables.insert(write.new, write.lease)
        elif write.lease is not run.lease and write.lease != run.lease:
            return LeaseLost(epoch)
        if write.first > run.last:
            self._append(run, write)
        return _COMMITTED

    def _holder(self, new: RunRecord) -> RunId | None:
        """The newest root run with the key of a new one."""
        if new.key is None or new.parent is not None:
            return None
        same = self._tables.keys.get(new.key)
        return None if same is None else same[-1]

    def _append(self, run: StoredRun, write: Write) -> None:
        if write.is_checkpoint and not self._keep_events:
            low_water = write.min_item
            run.rows[1:] = [row for row in run.rows[1:] if row.has_inputs and row.max_item >= low_water]
        run.rows.append(Row(write))
        run.last = write.first + write.count - 1
        for result in write.results:
            if result.index not in run.results:
                run.results[result.index] = result
                run.order.append(result.index)
        if run.record.claims:
            run.record = replace(run.record, claims=0)
        self._change(run, write)

    def _change(self, run: StoredRun, write: Write) -> None:
        change = write.change
        if change is None:
            return
        new = {
            name: value
            for name in ("status", "ended_at", "total", "succeeded", "failed", "error")
            if (value := getattr(change, name)) is not None
        }
        run.record = replace(run.record, **new)
        if change.status is not None and change.status.is_terminal:
            self._tables.end(run.record)
            self._drop_old(run.record.ended_at or 0.0)

    def _drop_old(self, now: float) -> None:
        ended = self._tables.ended
        while len(ended) > self._keep_runs:
            oldest, ended_at = next(iter(ended.items()))
            if now - ended_at < self._keep_s:
                return
            self._tables.drop(oldest)

    async def read(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        run = self._tables.runs.get(run_id)
        if run is None:
            return []
        begin = _beyond(run.rows, after)
        return [row.entries for row in run.rows[begin : begin + limit]]

    async def history(
        self, run_id: RunId, *, after: int = 0, limit: int = PAGE, item: int | None = None
    ) -> Sequence[Entries]:
        if item is None:
            return await self.read(run_id, after=after, limit=limit)
        run = self._tables.runs.get(run_id)
        if run is None:
            return []
        rows = run.rows[_beyond(run.rows, after) :]
        return [row.entries for row in rows if row.min_item <= item <= row.max_item][:limit]


def _beyond(rows: Sequence[Row], after: int) -> int:
    """The index of the first row with an entry beyond position `after`."""
    return bisect_right(rows, after, key=lambda row: row.entries.first + row.entries.count - 1)
