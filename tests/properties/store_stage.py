"""The stores that the state machine is played on: each empty at the beginning of a play."""

import asyncio
from abc import ABC, abstractmethod
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


class Stage(ABC):
    """A store for one play after the other. Ids are drawn by the stage, so that no two plays share one."""

    is_shared = False

    def __init__(self) -> None:
        self.ids = Ids()
        self.plays = 0
        self.backends: Sequence[Backend] = []
        self._runner = asyncio.Runner()
        self._open = AsyncExitStack()  # until the last play is over
        self._of_the_play = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def begin(self) -> None:
        self.plays += 1
        self.run(self._begin())

    def end(self) -> None:
        self.run(self._of_the_play.aclose())

    def close(self) -> None:
        self.run(self._open.aclose())
        self._runner.close()

    @abstractmethod
    async def _begin(self) -> None:
        """Have backends of an empty store."""


class SharedStage(Stage):
    """A store that several engines have open."""

    is_shared = True

    @abstractmethod
    async def expire(self, owner: str) -> None:
        """Let an engine not be heard of for longer than it may."""


class _AheadClock(SystemClock):
    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


class MemoryStage(SharedStage):
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
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    async def _begin(self) -> None:
        path = self._folder / f"{self.plays}.db"
        self._of_the_play.callback(self._remove, path.name)
        self.backends = [await self._of_the_play.enter_async_context(SqliteBackend(path, synchronous="NORMAL"))]

    def _remove(self, name: str) -> None:
        for path in self._folder.glob(f"{name}*"):
            path.unlink()


class PostgresStage(SharedStage):
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
