"""The journal of runs in a SQLite file."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from stepflow.protocols import PAGE
from stepflow.records import (
    Committed,
    Entries,
    Failed,
    Lease,
    LeaseLost,
    RunChange,
    RunId,
    RunRecord,
    Verdict,
    Write,
)
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.statements import statement

_encoder = msgspec.json.Encoder()

LAST_POSITION = 2**32 - 1
"""Of an entry in its run's journal, and of an item in its run: what the numbers of rows have room for."""


class SqliteJournal:
    """Writes of many runs in one transaction; which run refused its write is said by the verdicts."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        if not writes:
            return []
        return await self._file.write(lambda conn: _store(conn, writes))

    async def read(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        return await self._file.ask(lambda conn: _read(conn, "read_entries", run_id, after, limit))

    async def history(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        """As `read`, and the rows that a checkpoint replaced: kept for people, recovery needs them no more."""
        return await self._file.ask(lambda conn: _read(conn, "read_history", run_id, after, limit))


class _Head:
    """A run's row, as the writes of one commit change it. It is saved once, whatever their number."""

    __slots__ = ("changes", "checkpoint", "epoch", "is_changed", "last", "no", "owner", "places")

    def __init__(self, no: int, owner: str, epoch: int, last: int, places: int) -> None:
        self.no = no
        self.owner = owner
        self.epoch = epoch
        self.last = last
        self.places = places
        self.checkpoint: tuple[int | None, int | None] = (None, None)  # its position, and the items that it spares
        self.changes: list[RunChange] = []
        self.is_changed = False


def _store(conn: sqlite3.Connection, writes: Sequence[Write]) -> list[Verdict]:
    heads: dict[RunId, _Head] = {}
    verdicts = [_store_one(conn, write, heads) for write in writes]
    for head in heads.values():
        if head.is_changed:
            _save(conn, head)
    return verdicts


def _store_one(conn: sqlite3.Connection, write: Write, heads: dict[RunId, _Head]) -> Verdict:
    head = heads.get(write.run_id) or _head(conn, write)
    if head is None:
        return LeaseLost(0)
    heads[write.run_id] = head
    if write.lease.epoch < head.epoch:
        return LeaseLost(head.epoch)
    if write.lease.epoch > head.epoch:
        head.epoch, head.owner, head.is_changed = write.lease.epoch, write.lease.owner, True
    if write.first > head.last:
        _append(conn, head, write)
    return Committed()


def _head(conn: sqlite3.Connection, write: Write) -> _Head | None:
    found = conn.execute(statement("find_head"), (write.run_id,)).fetchone()
    if found is not None:
        return _Head(*found)
    if write.new is None:
        return None
    return _Head(_insert_run(conn, write.new, write.lease), write.lease.owner, write.lease.epoch, 0, 0)


def _append(conn: sqlite3.Connection, head: _Head, write: Write) -> None:
    base = head.no << 32
    kinds = (write.has_inputs, write.is_checkpoint)
    entry = (base + write.first, write.count, write.min_item, write.max_item, *kinds, write.payload)
    conn.execute(statement("insert_entry"), entry)
    insert = statement("insert_result")
    for result in write.results:
        row = (base + result.index, base + head.places + 1, _encoder.encode(result.outcome).decode())
        head.places += conn.execute(insert, row).rowcount
    head.last = write.first + write.count - 1
    head.is_changed = True
    if write.is_checkpoint:
        head.checkpoint = (write.first, write.min_item)
    if write.change is not None:
        head.changes.append(write.change)


def _save(conn: sqlite3.Connection, head: _Head) -> None:
    new: dict[str, Any] = dict.fromkeys(RunChange.__struct_fields__)
    for change in head.changes:
        new.update({name: value for name in new if (value := getattr(change, name)) is not None})
    counts = (new["total"], new["succeeded"], new["failed"])
    row = (head.owner, head.epoch, head.last, head.places, *head.checkpoint, *counts, head.no)
    conn.execute(statement("advance_run"), row)
    if new["status"] is not None or new["ended_at"] is not None or new["error"] is not None:
        conn.execute(statement("change_status"), (new["status"], new["ended_at"], _text(new["error"]), head.no))


def _insert_run(conn: sqlite3.Connection, record: RunRecord, lease: Lease) -> int:
    parent = record.parent
    link = (None, None, None, None) if parent is None else (parent.run_id, parent.item, parent.step, parent.key)
    row = (
        *(record.id, record.root_id, record.flow_id, record.flow_name, record.status, *link, record.key),
        *(record.created_at, record.ended_at, record.total, record.succeeded, record.failed, _text(record.error)),
        *(lease.owner, lease.epoch),
    )
    no = conn.execute(statement("insert_run"), row).lastrowid
    assert no is not None
    return no


def _text(value: Failed | None) -> str | None:
    return None if value is None else _encoder.encode(value).decode()


def _read(conn: sqlite3.Connection, name: str, run_id: RunId, after: int, limit: int) -> list[Entries]:
    after = min(after, LAST_POSITION - 1)
    found = conn.execute(statement("find_reading"), {"run_id": run_id, "after": after}).fetchone()
    if found is None:
        return []
    base, checkpoint, low_water, begin = found
    asked = {"base": base, "checkpoint": base + checkpoint, "low_water": low_water, "begin": begin or base + 1}
    rows = conn.execute(statement(name), {**asked, "after": base + after + 1, "limit": limit})
    return [Entries(at - base, count, payload) for at, count, payload in rows]
