"""Which engine drives which run. Engines are heard of, runs are not; only the server's clock says who is late."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from stepflow.clock import SystemClock
from stepflow.errors import StoreError
from stepflow.protocols import answers_topic, inbox_topic
from stepflow.records import JOURNAL_FORMAT, EngineRecord, Lease, Ownership, RunId, RunRecord
from stepflow_postgres.connection import Database, connect
from stepflow_postgres.escape import escaped, plain
from stepflow_postgres.keeping import kept_alive
from stepflow_postgres.runs import record_of
from stepflow_postgres.signals import PostgresSignals
from stepflow_postgres.statements import statement

SWEPT_AFTER_S = 3_600.0
"""How long the rows of a dead engine that owns nothing are kept, and messages and offers that nobody wants."""

PATIENCE_S = 2.0
"""How long an engine that is dead may hold its row by a transaction before its session is ended."""

LONG_PATIENCE_S = 10.0
"""The same for one whose name another has taken."""

_LOG = logging.getLogger(__name__)


class PostgresOwners:
    """Each change is one statement, so nobody who is stopped in the middle holds a lock that others wait for."""

    def __init__(self, database: Database, signals: PostgresSignals) -> None:
        self._database = database
        self._signals = signals
        self._told: defaultdict[str, set[RunId]] = defaultdict(set)  # claimed runs that each owner here knows of
        self._in_doubt: set[str] = set()  # owners that may have claimed runs without being told which
        self._clock = SystemClock()

    async def enter(self, engine: EngineRecord, *, ttl_s: float) -> EngineRecord:
        given = {
            "owner": escaped(engine.owner),
            "name": escaped(engine.name),
            "group": escaped(engine.group),
            "url": None if engine.url is None else escaped(engine.url),
            "place": escaped(engine.place),
            "started_at": engine.started_at,
            "ttl_s": float(ttl_s),
        }
        for (former,) in await self._database.write("fence_name", given):
            await self._drive_out(former, LONG_PATIENCE_S)
        [row] = await self._database.write("enter", given)
        await self._database.write("sweep", {"older_s": SWEPT_AFTER_S})
        return _engine_of(row)

    async def beat(self, owner: str) -> bool:
        return bool(await self._database.write("beat", {"owner": escaped(owner)}))

    def keep_alive(self, owner: str) -> AbstractAsyncContextManager[None]:
        text = statement("beat", self._database.schema).decode()
        return kept_alive(self._database.location.conninfo, text, escaped(owner))

    async def leave(self, owner: str) -> None:
        self._told.pop(owner, None)
        self._in_doubt.discard(owner)
        await self._database.write("leave", {"owner": escaped(owner)})

    async def announce(self, owner: str, url: str | None) -> None:
        given = {"owner": escaped(owner), "url": None if url is None else escaped(url)}
        await self._database.write("announce", given)

    async def claim(
        self,
        owner: str,
        *,
        root_id: RunId | None = None,
        limit: int = 100,
        journal_format: int = JOURNAL_FORMAT,
    ) -> Sequence[tuple[RunRecord, Lease]]:
        """Fenced first, by a statement of its own: the next one sees all that the dead have written."""
        asked = {"owner": escaped(owner), "root_id": root_id, "journal_format": journal_format, "limit": limit}
        for (stuck,) in await self._database.write("fence", {**asked, "patience_s": PATIENCE_S}):
            try:
                await self._drive_out(stuck, PATIENCE_S)
            except StoreError as error:
                _LOG.warning("engine %s is dead, but a session of it holds its row: %s", plain(stuck), error)
        was_in_doubt = owner in self._in_doubt
        self._in_doubt.add(owner)
        taken = await self._database.write("claim_runs", asked)
        claimed = await self._untold(owner, root_id) if taken or was_in_doubt else []
        if root_id is None or not was_in_doubt:
            self._in_doubt.discard(owner)
        if claimed:
            self._signals.wake(inbox_topic(owner), answers_topic(owner))
        return claimed

    async def _drive_out(self, owner: str, patience_s: float) -> None:
        """Fence an engine that may have stopped in the middle of a commit: end the session that holds its row."""
        location, former = self._database.location, {"owner": owner}
        async with connect(location.conninfo, location.shown) as connection, connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{patience_s + 3} s'".encode())
            [(pid,)] = await (await connection.execute("SELECT pg_backend_pid()")).fetchall()
            fencing = asyncio.create_task(connection.execute(statement("leave", self._database.schema), former))
            try:
                while not fencing.done():
                    await self._clock.sleep(0.02)
                    await self._database.write("end_blockers", {"pid": pid, "patience_s": patience_s})
                await fencing
            finally:
                fencing.cancel()

    async def _untold(self, owner: str, root_id: RunId | None) -> list[tuple[RunRecord, Lease]]:
        """Runs that were claimed and not written to since, but for those that the owner knows of."""
        sql = b"%s %s" % (statement("select_runs", self._database.schema), statement("claimed", self._database.schema))
        rows = await self._database.ask_sql(sql, {"owner": escaped(owner), "root_id": root_id})
        told = self._told[owner]
        claimed = [(record, Lease(owner, row[-1])) for row in rows if (record := record_of(row)).id not in told]
        told |= {record.id for record, _ in claimed}
        return claimed

    async def ownership(self, run_id: RunId) -> Ownership | None:
        rows = await self._database.ask("ownership", {"run_id": run_id})
        if not rows:
            return None
        owner, epoch, expires_in_s, *engine = rows[0]
        if engine[0] is None:
            return Ownership(owner=plain(owner), epoch=epoch, engine=None)
        return Ownership(owner=plain(owner), epoch=epoch, engine=_engine_of(engine), expires_in_s=expires_in_s)

    async def engines(self) -> Sequence[EngineRecord]:
        return [_engine_of(row) for row in await self._database.ask("engines")]


def _engine_of(row: Sequence[Any]) -> EngineRecord:
    owner, name, group, url, place, started_at, expires_at = row
    return EngineRecord(
        owner=plain(owner),
        name=plain(name),
        group=plain(group),
        url=None if url is None else plain(url),
        place=plain(place),
        started_at=started_at,
        expires_at=expires_at,
    )
