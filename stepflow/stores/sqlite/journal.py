"""The journal of runs in a SQLite file."""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from stepflow.protocols import PAGE
from stepflow.records import (
    Committed,
    Entries,
    Failed,
    ItemResult,
    KeyTaken,
    Lease,
    LeaseLost,
    RunChange,
    RunId,
    RunRecord,
    Verdict,
    Write,
)
from stepflow.stores.sqlite.checks import entry_crc, is_whole_entry, result_crc
from stepflow.stores.sqlite.faults import damaged
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.runs import LAST_POSITION
from stepflow.stores.sqlite.signals import SqliteSignals
from stepflow.stores.sqlite.statements import statement

_encoder = msgspec.json.Encoder()


class SqliteJournal:
    """Writes of many runs in one transaction; which run refused its write is said by the verdicts."""

    def __init__(self, file: SqliteFile, signals: SqliteSignals) -> None:
        self._file = file
        self._signals = signals

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        if not writes:
            return []
        verdicts = await self._file.write(lambda conn: self._commit(conn).store(writes))
        for write in writes:
            if write.change is not None and write.change.status is not None and write.change.status.is_terminal:
                self._signals.send_ended(write.run_id)
        return verdicts

    def _commit(self, conn: sqlite3.Connection) -> "_Commit":
        if self._file.numbers is None:
            self._file.numbers = count(conn.execute(statement("find_last_number")).fetchone()[0] + 1)
        return _Commit(conn, self._file, self._file.numbers)

    async def read(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        return await self._read("read_entries", {"run_id": run_id, "after": after, "limit": limit})

    async def history(
        self, run_id: RunId, *, after: int = 0, limit: int = PAGE, item: int | None = None
    ) -> Sequence[Entries]:
        """As `read`, and the rows that a checkpoint replaced: kept for people, recovery needs them no more."""
        return await self._read("read_history", {"run_id": run_id, "after": after, "limit": limit, "item": item})

    async def _read(self, name: str, asked: dict[str, Any]) -> Sequence[Entries]:
        return await self._file.ask(lambda conn: _read(conn, name, asked, self._file.path))


class _Head:
    """A run's row, as the writes of one commit change it. It is saved once, whatever their number."""

    __slots__ = ("changes", "checkpoint", "epoch", "is_changed", "last", "new", "no", "owner", "places")

    def __init__(self, no: int, owner: str, epoch: int, last: int, places: int, new: RunRecord | None = None) -> None:
        self.no = no
        self.owner = owner
        self.epoch = epoch
        self.last = last
        self.places = places
        self.new = new  # of a run whose row is not there yet
        self.checkpoint: tuple[int | None, int | None] = (None, None)  # its position, and the items that it spares
        self.changes: list[RunChange] = []
        self.is_changed = False


class _Commit:
    """One transaction's writes."""

    def __init__(self, conn: sqlite3.Connection, file: SqliteFile, numbers: Iterator[int]) -> None:
        self._conn = conn
        self._fenced = file.fenced
        self._now = file.clock.now()
        self._numbers = numbers
        self._heads: dict[RunId, _Head] = {}
        self._keys: dict[str, RunId] = {}  # of runs that this commit begins

    def store(self, writes: Sequence[Write]) -> list[Verdict]:
        verdicts = [self._store_one(write) for write in writes]
        for head in self._heads.values():
            if head.is_changed:
                _save(self._conn, head)
        return verdicts

    def _store_one(self, write: Write) -> Verdict:
        head = self._heads.get(write.run_id) or self._find(write)
        if head is None:
            return self._begin(write)
        if not self._may_write(write.lease, head):
            return LeaseLost(head.epoch)
        if write.first > head.last:
            self._append(head, write)
        return Committed()

    def _find(self, write: Write) -> _Head | None:
        found = self._conn.execute(statement("find_head"), (write.run_id,)).fetchone()
        if found is None:
            return None
        head = self._heads[write.run_id] = _Head(*found)
        return head

    def _begin(self, write: Write) -> Verdict:
        new, lease = write.new, write.lease
        if new is None or lease.owner in self._fenced:
            return LeaseLost(0)
        if new.key is not None and new.parent is None:
            holder = self._holder(new.key)
            if holder not in (None, write.supersedes):
                return KeyTaken(holder)
            self._keys[new.key] = new.id
        head = self._heads[write.run_id] = _Head(next(self._numbers), lease.owner, lease.epoch, 0, 0, new)
        self._append(head, write)
        return Committed()

    def _holder(self, key: str) -> RunId | None:
        if key in self._keys:
            return self._keys[key]
        found = self._conn.execute(statement("find_key"), (key,)).fetchone()
        return None if found is None else found[0]

    def _may_write(self, lease: Lease, head: _Head) -> bool:
        return lease.epoch == head.epoch and lease.owner == head.owner and lease.owner not in self._fenced

    def _append(self, head: _Head, write: Write) -> None:
        base = head.no << 32
        items = (write.min_item, write.max_item)
        header = (base + write.first, write.count, *items, write.has_inputs, write.is_checkpoint)
        crc = entry_crc(header, write.payload)
        self._conn.execute(statement("insert_entry"), (*header, write.payload, self._now, crc))
        if write.results:
            self._add_results(head, write.results)
        head.last = write.first + write.count - 1
        head.is_changed = True
        if write.is_checkpoint:
            head.checkpoint = (write.first, write.min_item)
        if write.change is not None:
            head.changes.append(write.change)

    def _add_results(self, head: _Head, results: Sequence[ItemResult]) -> None:
        """Give each item its result and the next place, unless it has one."""
        base, insert = head.no << 32, statement("insert_result")
        rows = [_result_row(base, place, result) for place, result in enumerate(results, head.places + 1)]
        if self._conn.executemany(insert, rows).rowcount == len(rows):
            head.places += len(rows)
            return
        self._conn.executemany(statement("remove_result"), [(at, place_at) for at, place_at, *_ in rows])
        for result in results:
            head.places += self._conn.execute(insert, _result_row(base, head.places + 1, result)).rowcount


def _result_row(base: int, place: int, result: ItemResult) -> tuple[int, int, str, int]:
    at, place_at, outcome = base + result.index, base + place, _encoder.encode(result.outcome)
    return at, place_at, outcome.decode(), result_crc(at, place_at, outcome)


def _save(conn: sqlite3.Connection, head: _Head) -> None:
    if head.new is not None and not head.changes:
        _insert_run(conn, head.new, head)
        return
    new: dict[str, Any] = dict.fromkeys(RunChange.__struct_fields__)
    for change in head.changes:
        new.update({name: value for name in new if (value := getattr(change, name)) is not None})
    if head.new is not None:
        changed = {name: value for name, value in new.items() if value is not None}
        _insert_run(conn, replace(head.new, **changed), head)
        return
    row: tuple[Any, ...] = (head.last, head.places, *head.checkpoint, new["total"], new["succeeded"], new["failed"])
    if new["status"] is None and new["ended_at"] is None and new["error"] is None:
        conn.execute(statement("advance_run"), (*row, head.no))
    else:
        row = (*row, new["status"], new["ended_at"], _text(new["error"]), head.no)
        conn.execute(statement("change_run"), row)


def _insert_run(conn: sqlite3.Connection, record: RunRecord, head: _Head) -> None:
    parent = record.parent
    link = (None, None, None, None) if parent is None else (parent.run_id, parent.item, parent.step, parent.key)
    row = (
        *(head.no, record.id, record.root_id, record.flow_id, record.flow_name, record.status, *link, record.key),
        *(record.created_at, record.ended_at, record.total, record.succeeded, record.failed, _text(record.error)),
        *(record.group, record.journal_format, record.retry_of, record.is_sealed, head.owner, head.epoch),
        *(head.last, head.places, head.checkpoint[0] or 0, head.checkpoint[1] or 0),
    )
    conn.execute(statement("insert_run"), row)


def _text(value: Failed | None) -> str | None:
    return None if value is None else _encoder.encode(value).decode()


def _read(conn: sqlite3.Connection, name: str, asked: dict[str, Any], path: Path) -> list[Entries]:
    after = min(asked["after"], LAST_POSITION - 1)
    run = {"run_id": asked["run_id"], "after": after}
    found = conn.execute(statement("find_reading"), run).fetchone()
    if found is None:
        return []
    base, checkpoint, low_water, last, begin = found
    span = {"base": base, "checkpoint": base + checkpoint, "low_water": low_water, "begin": begin or base + 1}
    rows = conn.execute(statement(name), {**asked, **span, "after": base + after + 1}).fetchall()
    entries = [_entries(row, base, path) for row in rows]
    if asked.get("item") is None:
        whole_from = checkpoint if name == "read_entries" else 0  # before it, rows are left out
        upto = last if len(rows) < asked["limit"] else 0
        if not _is_whole(entries, after, max(whole_from, 1), upto):
            raise damaged(path, "rows of a run's journal are missing")
    return entries


def _is_whole(entries: Sequence[Entries], after: int, whole_from: int, upto: int) -> bool:
    """Whether the rows hold every entry beyond `after` and from `whole_from` on, up to `upto` at least."""
    wanted = max(after + 1, whole_from)
    for row in entries:
        if row.first > wanted:
            return False
        if row.first + row.count > wanted:
            wanted = row.first + row.count
    return wanted > upto


def _entries(row: Sequence[Any], base: int, path: Path) -> Entries:
    *header, payload, crc = row
    if not is_whole_entry(header, payload, crc):
        raise damaged(path, "a row of a run's journal is not what was written")
    return Entries(header[0] - base, header[1], payload)
