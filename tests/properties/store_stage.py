"""The stores that the state machine is played on: each empty at the beginning of a play."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from stepflow.clock import SystemClock
from stepflow.protocols import Backend
from stepflow.stores.memory import MemoryBackend
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.suites.writes import TTL_S, Ids
from stepflow_postgres.backend import PostgresBackend

T = TypeVar("T")


class Stage:
    """A store for one play after the other. Ids are drawn by the stage, so that no two plays share one."""

    is_shared = True

    def __init__(self) -> None:
        self.ids = Ids()
        self.plays = 0
        self.backends: Sequence[Backend] = []
        self._runner = asyncio.Runner()
        self._open = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def begin(self) -> None:
        self.plays += 1
        self.run(self._begin())

    def end(self) -> None:
        self.run(self._end())

    def close(self) -> None:
        self.run(self._open.aclose())
        self._runner.close()

    async def _begin(self) -> None:
        raise NotImplementedError

    async def _end(self) -> None:
        """A play is over."""

    async def expire(self, owner: str) -> None:
        raise NotImplementedError


class _AheadClock(SystemClock):
    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


class MemoryStage(Stage):
    async def _begin(self) -> None:
        self._clock = _AheadClock()
        backend = MemoryBackend(shared=True, clock=self._clock)
        self.backends = [await backend.__aenter__(), await backend.__aenter__()]

    async def expire(self, owner: str) -> None:
        engines = await self.backends[0].owners.engines()
        self._clock.ahead_s += TTL_S
        for engine in engines:
            if engine.owner != owner:
                await self.backends[0].owners.beat(engine.owner)


class SqliteStage(Stage):
    is_shared = False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    async def _begin(self) -> None:
        path = self._folder / f"{self.plays}.db"
        self.backends = [await self._open.enter_async_context(SqliteBackend(path, synchronous="NORMAL"))]

    async def _end(self) -> None:
        await self._open.aclose()
        for path in self._folder.glob(f"{self.plays}.db*"):
            path.unlink()


class PostgresStage(Stage):
    """Two backends of one schema, open all the time."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    async def _begin(self) -> None:
        if not self.backends:
            self.backends = [await self._open.enter_async_context(PostgresBackend(self._url)) for _ in range(2)]
        tables = ("engines", "runs", "keys", "entries", "results", "inbox", "offers")
        await self._execute(f"TRUNCATE {', '.join(f'stepflow._{table}' for table in tables)} CASCADE")

    async def expire(self, owner: str) -> None:
        sql = (
            "UPDATE stepflow._engines SET expires_at = clock_timestamp() - interval '1 second' WHERE owner = %(owner)s"
        )
        await self._execute(sql, owner=owner)

    async def _execute(self, sql: str, **parameters: object) -> None:
        backend = self.backends[0]
        assert isinstance(backend, PostgresBackend)
        await backend.database.write_sql(backend.database.sql(sql), parameters)
