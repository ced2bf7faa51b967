"""Questions about the runs in a SQLite file."""

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from stepflow.protocols import PAGE
from stepflow.records import Failed, ItemResult, Outcome, ParentLink, RunId, RunRecord, RunStatus
from stepflow.stores.sqlite.checks import is_whole_result
from stepflow.stores.sqlite.faults import damaged
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.statements import statement

LAST_POSITION = 2**32 - 1
"""Of an entry in its run's journal, and of an item in its run: what the numbers of rows have room for."""

_outcomes = msgspec.json.Decoder(Outcome)
_failures = msgspec.json.Decoder(Failed)


class SqliteRuns:
    """What the rows of runs and of results say."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def get(self, run_id: RunId) -> RunRecord | None:
        return await self._one("WHERE id = ?", run_id)

    async def find(self, prefix: str) -> Sequence[RunId]:
        if prefix == "last":
            rows = await self._rows(statement("find_last"))
        elif prefix.isascii():
            rows = await self._rows(statement("find_ids"), prefix, prefix + "\U0010ffff")
        else:
            rows = []
        return [id for (id,) in rows]

    async def find_child(self, parent: ParentLink) -> RunRecord | None:
        where = "WHERE parent_run = ? AND parent_item = ? AND parent_step = ? AND parent_key = ?"
        return await self._one(f"{where} ORDER BY id DESC LIMIT 1", parent.run_id, parent.item, parent.step, parent.key)

    async def find_key(self, key: str) -> RunRecord | None:
        return await self._one("WHERE key = ? AND parent_run IS NULL ORDER BY no DESC LIMIT 1", key)

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
        asked = {
            "status = ?" if status is RunStatus.COMPLETED else "status <> 'completed' AND status = ?": status,
            "flow_name = ?": flow_name,
            "(id = ? OR (parent_run IS NOT NULL AND root_id = ?))": root_id,
            "parent_run = ?": parent_id,
            "id < ?": before,
        }
        given = {clause: value for clause, value in asked.items() if value is not None}
        clauses = [*given, "parent_run IS NULL"] if roots_only else [*given]
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        values = [value for clause, value in given.items() for _ in range(clause.count("?"))]
        sql = f"{statement('select_runs')} {where} ORDER BY id DESC LIMIT ?"
        return [record_of(row) for row in await self._rows(sql, *values, limit)]

    async def results(self, run_id: RunId, *, after: int = -1, limit: int = PAGE) -> Sequence[ItemResult]:
        counts, rows = await self._stored("results", run_id, after, limit)
        found = [self._result(row) for row in rows]
        least = min(limit, counts.places - after - 1) if counts.places == counts.expected else None
        if least is not None and not _are_consecutive([one.index for one in found], after, least):
            raise damaged(self._file.path, "results of a run are missing")
        return found

    async def completed(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[tuple[int, ItemResult]]:
        counts, rows = await self._stored("completed", run_id, after, limit)
        results = [self._result(row) for row in rows]
        found = [(row[1] & LAST_POSITION, result) for row, result in zip(rows, results, strict=True)]
        if not _are_consecutive([place for place, _ in found], after, min(limit, counts.places - after)):
            raise damaged(self._file.path, "results of a run are missing")
        return found

    async def forget_results(self, run_id: RunId, *, through: int) -> None:
        return None

    def _result(self, row: Sequence[Any]) -> ItemResult:
        at, place_at, outcome, crc = row
        if not is_whole_result(at, place_at, outcome, crc):
            raise damaged(self._file.path, "the result of an item is not what was written")
        return ItemResult(at & LAST_POSITION, _outcomes.decode(outcome))

    async def _stored(
        self, name: str, run_id: RunId, after: int, limit: int
    ) -> tuple["_Counts", Sequence[tuple[Any, ...]]]:
        def read(conn: sqlite3.Connection) -> tuple[_Counts, Sequence[tuple[Any, ...]]]:
            found = conn.execute(statement("find_counts"), (run_id,)).fetchone()
            if found is None:
                return _Counts(0, 0, None), []
            counts = _Counts(*found)
            asked = {"base": counts.base, "after": after, "limit": min(limit, LAST_POSITION - after)}
            return counts, conn.execute(statement(name), asked).fetchall()

        return await self._file.ask(read)

    async def _one(self, where: str, *values: str | int) -> RunRecord | None:
        rows = await self._rows(f"{statement('select_runs')} {where}", *values)
        return record_of(rows[0]) if rows else None

    async def _rows(self, sql: str, *values: str | int) -> Sequence[tuple[Any, ...]]:
        return await self._file.ask(lambda conn: conn.execute(sql, values).fetchall())


class _Counts(NamedTuple):
    """Where a run's results begin, how many there are, and how many there must be now that it has ended."""

    base: int
    places: int
    expected: int | None


def _are_consecutive(numbers: Sequence[int], after: int, least: int) -> bool:
    """Whether these are the numbers that follow `after`, at least so many of them."""
    return len(numbers) >= least and all(number == after + n for n, number in enumerate(numbers, 1))


def record_of(row: Sequence[Any]) -> RunRecord:
    """The run that a row of `select_runs` tells of."""
    id, root_id, flow_id, flow_name, status, parent_run, item, step, parent_key, key = row[:10]
    created_at, ended_at, total, succeeded, failed, error = row[10:16]
    group, journal_format, retry_of, is_sealed, claims = row[16:21]
    return RunRecord(
        id=id,
        root_id=root_id,
        flow_id=flow_id,
        flow_name=flow_name,
        status=RunStatus(status),
        parent=None if parent_run is None else ParentLink(run_id=parent_run, item=item, step=step, key=parent_key),
        key=key,
        created_at=created_at,
        ended_at=ended_at,
        total=total,
        succeeded=succeeded,
        failed=failed,
        error=None if error is None else _failures.decode(error),
        group=group,
        journal_format=journal_format,
        retry_of=retry_of,
        is_sealed=bool(is_sealed),
        claims=claims,
    )
