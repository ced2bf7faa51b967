"""The journal of runs in a SQLite file."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from stepflow.protocols import PAGE
from stepflow.records import (
    Committed,
    Entries,
    ItemResult,
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
_UNCHANGED = RunChange()


class SqliteJournal:
    """Writes of many runs in one transaction; which run refused its write is said by the verdicts."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        if not writes:
            return []
        return await self._file.write(lambda conn: [_store(conn, write) for write in writes])

    async def read(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        return await self._file.ask(lambda conn: _read(conn, "read_entries", run_id, after, limit))

    async def history(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        """As `read`, and the rows that a checkpoint replaced: kept for people, recovery needs them no more."""
        return await self._file.ask(lambda conn: _read(conn, "read_history", run_id, after, limit))


def _store(conn: sqlite3.Connection, write: Write) -> Verdict:
    head = conn.execute(statement("find_head"), (write.run_id,)).fetchone()
    if head is None:
        if write.new is None:
            return LeaseLost(0)
        head = (_insert_run(conn, write.new, write.lease), write.lease.epoch, 0, 0)
    no, epoch, last, places = head
    if write.lease.epoch < epoch:
        return LeaseLost(epoch)
    if write.first > last:
        _append(conn, no, places, write)
    elif write.lease.epoch > epoch:
        conn.execute(statement("raise_epoch"), (write.lease.epoch, write.lease.owner, no))
    return Committed()


def _append(conn: sqlite3.Connection, no: int, places: int, write: Write) -> None:
    entry = (
        *(no, write.first, write.count, write.min_item, write.max_item),
        *(write.has_inputs, write.is_checkpoint, write.payload),
    )
    conn.execute(statement("insert_entry"), entry)
    if write.results:
        places = _insert_results(conn, no, places, write.results)
    change = write.change or _UNCHANGED
    checkpoint = (write.first, write.min_item) if write.is_checkpoint else (None, None)
    counts = (change.total, change.succeeded, change.failed)
    last = write.first + write.count - 1
    conn.execute(
        statement("advance_run"), (write.lease.epoch, write.lease.owner, last, places, *checkpoint, *counts, no)
    )
    if change.status is not None or change.ended_at is not None or change.error is not None:
        conn.execute(statement("change_status"), (change.status, change.ended_at, _text(change.error), no))


def _insert_results(conn: sqlite3.Connection, no: int, places: int, results: Sequence[ItemResult]) -> int:
    insert = statement("insert_result")
    for result in results:
        row = (no, result.index, places + 1, _encoder.encode(result.outcome).decode())
        places += conn.execute(insert, row).rowcount
    return places


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


def _text(value: Any) -> str | None:
    return None if value is None else _encoder.encode(value).decode()


def _read(conn: sqlite3.Connection, name: str, run_id: RunId, after: int, limit: int) -> list[Entries]:
    found = conn.execute(statement("find_reading"), {"run_id": run_id, "after": after}).fetchone()
    if found is None:
        return []
    run, checkpoint, low_water, begin = found
    asked = {"run": run, "checkpoint": checkpoint, "low_water": low_water, "begin": begin}
    rows = conn.execute(statement(name), {**asked, "after": after, "limit": limit})
    return [Entries(*row) for row in rows]
