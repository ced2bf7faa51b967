"""Deletes old runs and blobs from a SQLite file, a little at a time."""

import sqlite3
from collections.abc import Sequence

import anyio.lowlevel

from stepflow.records import RunId
from stepflow.stores.sqlite.blobs import TOUCH_AFTER_S
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.statements import statement

ROWS = 500
"""Rows that one transaction deletes of a table at most: the engine's own commits wait for no more than these."""


class SqliteRetention:
    """A deleted run is gone at once; its rows follow in short transactions, after a crash with those of the next."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def delete(self, root_id: RunId) -> bool:
        found = await self._file.write(lambda conn: _drop(conn, _ended_root(conn, root_id)), by_readers=True)
        await self._sweep()
        return found > 0

    async def prune(self, *, ended_before: float | None = None, keep: int | None = None, limit: int = 100) -> int:
        asked = {"ended_before": ended_before, "keep": keep, "limit": limit}
        dropped = await self._file.write(lambda conn: _drop(conn, _old_roots(conn, asked)), by_readers=True)
        await self._sweep()
        return dropped

    async def prune_blobs(self, *, untouched_before: float, limit: int = 100) -> int:
        asked = (untouched_before - TOUCH_AFTER_S, limit)  # use within the hour after a note is not noted
        return await self._file.write(
            lambda conn: conn.execute(statement("prune_blobs"), asked).rowcount, by_readers=True
        )

    async def _sweep(self) -> None:
        """Delete the rows of all runs that are gone."""
        while await self._file.ask(lambda conn: conn.execute(statement("find_deleted")).fetchone()):
            await self._file.write(_sweep_some, by_readers=True)
            await anyio.lowlevel.checkpoint()


def _ended_root(conn: sqlite3.Connection, root_id: RunId) -> list[RunId]:
    return [row[0] for row in conn.execute(statement("find_ended"), (root_id,)).fetchall()]


def _old_roots(conn: sqlite3.Connection, asked: dict[str, float | int | None]) -> list[RunId]:
    return [row[0] for row in conn.execute(statement("find_old"), asked).fetchall()]


def _drop(conn: sqlite3.Connection, roots: Sequence[RunId]) -> int:
    """Take whole trees out of sight, and give the number of roots."""
    for root_id in roots:
        for name in ("note_deleted", "remove_messages", "remove_offers", "delete_runs"):
            conn.execute(statement(name), {"root_id": root_id})
    return len(roots)


def _sweep_some(conn: sqlite3.Connection) -> None:
    for (no,) in conn.execute(statement("find_deleted")).fetchall():
        asked = {"first": no << 32, "end": (no + 1) << 32, "limit": ROWS}
        deleted = [conn.execute(statement(name), asked).rowcount for name in ("sweep_entries", "sweep_results")]
        if max(deleted) == ROWS:
            return
        conn.execute(statement("forget_deleted"), (no,))
