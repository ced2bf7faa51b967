"""The bare group-commit loop: what durable steps cost when nothing but the shape is there.

The shape of `limit.py`, and each step waits until the entry of its end is in the store. The entries of all the steps
that end while a commit is under way, or until the loop comes round, are one commit: in SQLite a transaction of one row
an entry, in PostgreSQL one statement that holds the run's epoch against the lease's and inserts the rows. There is no
flow, no result, no recovery: an engine can come near this, never reach it.
"""

import asyncio
import sqlite3
import time
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from limit import chain, noop

if TYPE_CHECKING:
    from psycopg import AsyncConnection

RUN = "01933f2c-7d3e-7c4a-9f00-0123456789ab"


class Bare(Protocol):
    """A table of entries, and the way to add some durably."""

    async def __aenter__(self) -> "Bare": ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def commit(self, first: int, entries: list[bytes]) -> None:
        """One transaction."""
        ...


class BareSqlite:
    """In WAL mode, `synchronous=FULL`."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def __aenter__(self) -> "BareSqlite":
        self._conn = sqlite3.connect(self._path, isolation_level=None)
        self._conn.execute("PRAGMA journal_mode = WAL")
        self._conn.execute("PRAGMA synchronous = FULL")
        self._conn.execute("CREATE TABLE bare (run TEXT, position INTEGER, payload BLOB, PRIMARY KEY (run, position))")
        return self

    async def __aexit__(self, *exc: object) -> None:
        with closing(self._conn):
            self._conn.execute("DROP TABLE bare")

    async def commit(self, first: int, entries: list[bytes]) -> None:
        self._conn.execute("BEGIN IMMEDIATE")
        rows = [(RUN, position, entry) for position, entry in enumerate(entries, first)]
        self._conn.executemany("INSERT INTO bare VALUES (?, ?, ?)", rows)
        self._conn.execute("COMMIT")


class BarePostgres:
    """With the server's own settings."""

    INSERT = """
        INSERT INTO bare.entries (run, position, payload)
        SELECT lease.run, entry.position, entry.payload
        FROM (SELECT run FROM bare.leases WHERE run = %s AND epoch = %s FOR SHARE) AS lease,
            unnest(%s::bigint[], %s::bytea[]) AS entry (position, payload)
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._conn: AsyncConnection[Any]

    async def __aenter__(self) -> "BarePostgres":
        from psycopg import AsyncConnection

        self._conn = await AsyncConnection.connect(self._url, autocommit=True, prepare_threshold=0)
        await self._conn.execute("DROP SCHEMA IF EXISTS bare CASCADE")
        await self._conn.execute("CREATE SCHEMA bare")
        await self._conn.execute("CREATE TABLE bare.leases (run text PRIMARY KEY, epoch bigint)")
        await self._conn.execute("INSERT INTO bare.leases VALUES (%s, 1)", (RUN,))
        await self._conn.execute(
            "CREATE TABLE bare.entries (run text, position bigint, payload bytea, PRIMARY KEY (run, position))"
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._conn.execute("DROP SCHEMA bare CASCADE")
        await self._conn.close()

    async def commit(self, first: int, entries: list[bytes]) -> None:
        positions = list(range(first, first + len(entries)))
        written = await self._conn.execute(self.INSERT, (RUN, 1, positions, entries), binary=True)
        assert written.rowcount == len(entries)


class GroupCommit:
    """Entries that came since the last commit began, committed together."""

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._entries: list[bytes] = []
        self._news = asyncio.Event()
        self._durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def add(self, entry: bytes) -> "asyncio.Future[None]":
        """Done when the entry is stored."""
        self._entries.append(entry)
        self._news.set()
        return self._durable

    async def serve(self) -> None:
        position = 1
        while True:
            await self._news.wait()
            self._news.clear()
            entries, self._entries = self._entries, []
            durable, self._durable = self._durable, asyncio.get_running_loop().create_future()
            await self._bare.commit(position, entries)
            position += len(entries)
            durable.set_result(None)


async def _run(bare: Bare, items: list[Any], steps: int, slots: int) -> tuple[list[Any], float]:
    inputs = chain(steps)
    waiting = deque(range(len(items)))
    outputs: list[list[Any]] = [[None] * steps for _ in items]
    encode = msgspec.json.Encoder().encode
    async with bare:
        group = GroupCommit(bare)
        committing = asyncio.create_task(group.serve())

        async def runner() -> None:
            while waiting:
                index = waiting.popleft()
                for step in range(steps):
                    output = await noop(inputs[step](outputs[index], items[index]))
                    await group.add(encode(("ok", index, step, output, 0)))
                    outputs[index][step] = output

        started = time.perf_counter()
        await asyncio.gather(*(runner() for _ in range(min(slots, len(items)))))
        elapsed = time.perf_counter() - started
        committing.cancel()
    return [each[-1] for each in outputs], elapsed


def steps_per_s(bare: Bare, items: int, steps: int, slots: int) -> float:
    """Of a batch whose steps are each stored before what follows them begins."""
    inputs = [{"n": n} for n in range(items)]
    results, elapsed = asyncio.run(_run(bare, inputs, steps, slots))
    assert results == inputs
    return items * steps / elapsed


async def commit_ms(bare: Bare, commits: range) -> list[float]:
    """How long commits of one entry take in an open table, one after the other, at these positions."""
    entry = msgspec.json.encode(("ok", 0, 0, {"n": 1}, 0))
    times = []
    for position in commits:
        started = time.perf_counter()
        await bare.commit(position, [entry])
        times.append((time.perf_counter() - started) * 1000)
    return times
