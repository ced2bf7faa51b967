"""Who drives the runs of a SQLite file."""

import sqlite3
from collections.abc import Sequence

from stepflow.records import Lease, RunId, RunRecord
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.runs import record_of
from stepflow.stores.sqlite.statements import statement


class SqliteOwners:
    """A file has one engine at a time, so every run in it that has not ended is free to be taken over."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def claim(self, owner: str, *, root_id: RunId | None = None) -> Sequence[tuple[RunRecord, Lease]]:
        return await self._file.write(lambda conn: _claim(conn, owner, root_id))


def _claim(conn: sqlite3.Connection, owner: str, root_id: RunId | None) -> list[tuple[RunRecord, Lease]]:
    conn.execute(statement("claim_runs"), {"owner": owner, "root_id": root_id})
    rows = conn.execute(f"{statement('select_runs')} {_UNFINISHED}", {"root_id": root_id}).fetchall()
    return [(record_of(row), Lease(owner, row[-1])) for row in rows]


_UNFINISHED = "WHERE status IN ('running', 'paused') AND (:root_id IS NULL OR root_id = :root_id) ORDER BY id"
