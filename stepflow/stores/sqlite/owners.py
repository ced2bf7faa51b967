"""Which engine drives the runs of a SQLite file."""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from stepflow.records import JOURNAL_FORMAT, EngineRecord, Lease, Ownership, RunId, RunRecord
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.runs import record_of
from stepflow.stores.sqlite.statements import statement


class SqliteOwners:
    """A file has one engine at a time: each that enters shuts out all before it, and is never too late."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def enter(self, engine: EngineRecord, *, ttl_s: float) -> EngineRecord:
        self._file.fenced |= await self._file.write(lambda conn: _enter(conn, engine))
        self._file.fenced.discard(engine.owner)
        return engine

    async def beat(self, owner: str) -> bool:
        return any(engine.owner == owner for engine in await self.engines())

    def keep_alive(self, owner: str) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def leave(self, owner: str) -> None:
        await self._file.write(lambda conn: conn.execute(statement("remove_engine"), (owner,)))
        self._file.fenced.add(owner)

    async def announce(self, owner: str, url: str | None) -> None:
        await self._file.write(lambda conn: conn.execute(statement("announce_engine"), (url, owner)))

    async def claim(
        self,
        owner: str,
        *,
        root_id: RunId | None = None,
        limit: int = 100,
        journal_format: int = JOURNAL_FORMAT,
    ) -> Sequence[tuple[RunRecord, Lease]]:
        return await self._file.write(lambda conn: _claim(conn, owner, root_id, limit, journal_format))

    async def ownership(self, run_id: RunId) -> Ownership | None:
        found = await self._file.ask(lambda conn: conn.execute(statement("find_owner"), (run_id,)).fetchone())
        if found is None:
            return None
        owner, epoch, _ = found
        engine = next((engine for engine in await self.engines() if engine.owner == owner), None)
        return Ownership(owner=owner, epoch=epoch, engine=engine)

    async def engines(self) -> Sequence[EngineRecord]:
        if not self._file.has_engine():
            return []
        return [_engine_of(row) for row in await self._file.ask(_engines)]


def _engines(conn: sqlite3.Connection) -> list[Any]:
    return conn.execute(f"{statement('select_engines')} ORDER BY started_at, owner").fetchall()


def _engine_of(row: Sequence[Any]) -> EngineRecord:
    owner, name, group, url, place, started_at = row
    return EngineRecord(owner=owner, name=name, group=group, url=url, place=place, started_at=started_at)


def _enter(conn: sqlite3.Connection, engine: EngineRecord) -> set[str]:
    """The owners that are fenced now."""
    fenced = {row[0] for row in _engines(conn)}
    for owner in fenced:
        conn.execute(statement("remove_engine"), (owner,))
    row = (engine.owner, engine.name, engine.group, engine.url, engine.place, engine.started_at)
    conn.execute(statement("enter_engine"), row)
    return fenced


def _claim(
    conn: sqlite3.Connection, owner: str, root_id: RunId | None, limit: int, journal_format: int
) -> list[tuple[RunRecord, Lease]]:
    engines = {row[0]: row[2] for row in _engines(conn)}
    if engines and owner not in engines:
        return []
    group = engines.get(owner) if root_id is None else None
    asked = {"root_id": root_id, "group_name": group, "journal_format": journal_format, "limit": limit}
    roots = [row[0] for row in conn.execute(statement("find_claimable"), asked).fetchall()]
    return [claimed for root in roots for claimed in _claim_tree(conn, owner, root)]


def _claim_tree(conn: sqlite3.Connection, owner: str, root_id: RunId) -> list[tuple[RunRecord, Lease]]:
    conn.execute(statement("claim_tree"), {"owner": owner, "root_id": root_id})
    rows = conn.execute(f"{statement('select_runs')} {_UNFINISHED}", {"root_id": root_id}).fetchall()
    return [(record_of(row), Lease(owner, row[-1])) for row in rows]


_UNFINISHED = (
    "WHERE (id = :root_id OR (parent_run IS NOT NULL AND root_id = :root_id)) AND status IN ('running', 'paused') "
    "ORDER BY id"
)
