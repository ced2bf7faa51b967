"""Who drives the runs of a memory store."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from msgspec.structs import replace

from stepflow.records import JOURNAL_FORMAT, EngineRecord, Lease, Ownership, RunId, RunRecord
from stepflow.stores.memory.tables import StoredEngine, StoredRun, Tables


class MemoryOwners:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def enter(self, engine: EngineRecord, *, ttl_s: float) -> EngineRecord:
        engines = self._tables.engines
        for other in list(engines.values()):
            if not self._tables.is_shared or other.record.name == engine.name:
                del engines[other.record.owner]
        stored = engines[engine.owner] = StoredEngine(engine, ttl_s)
        self._hear_of(stored)
        return _shown(stored)

    async def beat(self, owner: str) -> bool:
        engine = self._tables.engines.get(owner)
        if engine is None:
            return False
        self._hear_of(engine)
        return True

    def _hear_of(self, engine: StoredEngine) -> None:
        if self._tables.is_shared:
            engine.expires_at = self._tables.clock.now() + engine.ttl_s

    @asynccontextmanager
    async def keep_alive(self, owner: str) -> AsyncIterator[None]:
        yield  # while this process gets no turn, nobody is there to call the engine dead

    async def leave(self, owner: str) -> None:
        self._tables.engines.pop(owner, None)

    async def announce(self, owner: str, url: str | None) -> None:
        engine = self._tables.engines.get(owner)
        if engine is not None:
            engine.record = replace(engine.record, url=url)

    async def claim(
        self,
        owner: str,
        *,
        root_id: RunId | None = None,
        limit: int = 100,
        journal_format: int = JOURNAL_FORMAT,
    ) -> Sequence[tuple[RunRecord, Lease]]:
        if owner not in self._tables.engines:
            return []
        claimed: list[tuple[RunRecord, Lease]] = []
        roots = sorted(self._tables.unfinished) if root_id is None else [root_id]
        for id in roots:
            members = self._members(id)
            if members and self._may_claim(owner, members, journal_format, any_group=root_id is not None):
                claimed += [self._take(owner, run) for run in members]
                limit -= 1
            if not limit:
                break
        return claimed

    def _members(self, root_id: RunId) -> list[StoredRun]:
        """The unfinished runs of a tree, oldest first."""
        return [self._tables.runs[id] for id in sorted(self._tables.unfinished.get(root_id, ()))]

    def _may_claim(self, owner: str, members: Sequence[StoredRun], journal_format: int, *, any_group: bool) -> bool:
        group = self._tables.engines[owner].record.group
        return all(
            run.lease.owner != owner
            and not self._tables.is_alive(run.lease.owner)
            and run.record.journal_format <= journal_format
            and (any_group or run.record.group == group)
            for run in members
        )

    def _take(self, owner: str, run: StoredRun) -> tuple[RunRecord, Lease]:
        self._tables.engines.pop(run.lease.owner, None)
        run.lease = Lease(owner, run.lease.epoch + 1)
        run.record = replace(run.record, claims=run.record.claims + 1)
        return run.record, run.lease

    async def ownership(self, run_id: RunId) -> Ownership | None:
        run = self._tables.runs.get(run_id)
        if run is None:
            return None
        lease = run.lease
        if not self._tables.is_alive(lease.owner):
            return Ownership(owner=lease.owner, epoch=lease.epoch, engine=None)
        engine = self._tables.engines[lease.owner]
        expires_in_s = None if engine.expires_at is None else engine.expires_at - self._tables.clock.now()
        return Ownership(owner=lease.owner, epoch=lease.epoch, engine=_shown(engine), expires_in_s=expires_in_s)

    async def engines(self) -> Sequence[EngineRecord]:
        return [_shown(one) for owner, one in self._tables.engines.items() if self._tables.is_alive(owner)]


def _shown(engine: StoredEngine) -> EngineRecord:
    return replace(engine.record, expires_at=engine.expires_at)
