"""The pool of connections, and the one place where statements are sent.

Nothing that lasts is set on a session: statements name the schema, and what a transaction needs is set for it alone. So
a pooler may hand each transaction to another session.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import anyio
from psycopg import AsyncConnection, Error
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from stepflow.errors import StoreError
from stepflow_postgres.arrays import register_arrays
from stepflow_postgres.faults import in_our_words, is_lost, store_error
from stepflow_postgres.location import Location
from stepflow_postgres.sender import Sender
from stepflow_postgres.statements import in_schema, statement

Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = AsyncConnection[Row]
Parameters: TypeAlias = Mapping[str, object]
Statement: TypeAlias = tuple[str, Parameters]
"""A file's name in `queries/`, and what goes into it."""

WAIT_S = 10.0
"""How long to wait for a free connection, or for a new one."""

ASKED_S = 0.01
"""How long to wait for a connection that is asked for only to have the pool open one."""

OLDEST = 140_000
"""The first version of PostgreSQL whose words all statements are made of."""

IDLE_S = 300.0
"""How long a connection beyond the first two is kept unused."""


class Database:
    """A database while a store is open on it."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._kept: tuple[Connection, Sender] | None = None
        self._is_writing = False
        self._tries: set[asyncio.Task[None]] = set()

    @property
    def schema(self) -> str:
        return self.location.schema

    @property
    def shown(self) -> str:
        """The location, for messages."""
        return self.location.shown

    async def open(self) -> None:
        if self._pool is not None:
            raise StoreError(f"{self.shown}: the store is open already")
        size = self.location.pool_size
        self._pool = AsyncConnectionPool(
            self.location.conninfo,
            kwargs={"autocommit": True, "prepare_threshold": 0 if self.location.is_prepared else None},
            min_size=min(2, size),
            max_size=size,
            open=False,
            configure=_configure,
            timeout=WAIT_S,
            max_idle=IDLE_S,
            reconnect_timeout=1.0,  # then whoever asks next tries anew at once,
            reconnect_failed=self._try_anew,  # and whoever has asked already does not wait in vain
            name="stepflow",
        )
        with in_our_words(self.shown):
            await self._pool.open(wait=True, timeout=WAIT_S)

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        kept, self._kept = self._kept, None
        if pool is None:
            return
        if kept is not None:
            kept[1].leave()
            await pool.putconn(kept[0])
        await pool.close()

    async def ask(self, name: str, parameters: Parameters | None = None) -> list[Row]:
        """The rows that `queries/NAME.sql` reads. It must not write: where a connection is lost it is sent again.

        Raises:
            StoreUnavailableError: the server did not answer.
            StoreError: it can't do what it was asked.
        """
        return await self.ask_sql(statement(name, self.schema), parameters)

    async def ask_sql(self, sql: bytes, parameters: Parameters | None = None) -> list[Row]:
        """The same for a statement that was put together."""
        with in_our_words(self.shown):
            try:
                return await self._send(sql, parameters)
            except Error as error:
                if not is_lost(error):
                    raise
                await self._renew()
                return await self._send(sql, parameters)

    async def write(self, name: str, parameters: Parameters | None = None) -> list[Row]:
        """Carry out `queries/NAME.sql` in a transaction of its own, in one round trip, and give what it returns.

        Raises:
            StoreUnavailableError: it may or may not have been carried out.
            StoreError: it was not.
        """
        return await self.write_sql(statement(name, self.schema), parameters)

    async def write_sql(self, sql: bytes, parameters: Parameters | None = None) -> list[Row]:
        """The same for a statement that was put together."""
        with in_our_words(self.shown):
            try:
                return await self._send(sql, parameters)
            except Error as error:
                if is_lost(error):
                    await self._renew()
                raise

    async def write_all(self, statements: Sequence[Statement]) -> Sequence[list[Row]]:
        """The same for several statements, which go out together and are one transaction; what each returns.

        It has a connection of its own, whose plans are made: the pool hands out another one each time.
        """
        prepared = [(statement(name, self.schema), parameters) for name, parameters in statements]
        if self._is_writing or self.location.pool_size == 1:
            with in_our_words(self.shown):
                async with self._opened().connection() as connection:
                    return await _send_all(connection, prepared)
        self._is_writing = True
        try:
            return await self._write_kept(prepared)
        except (Error, OSError) as error:
            raise store_error(error, self.shown) from error
        finally:
            self._is_writing = False

    async def _write_kept(self, statements: Sequence[tuple[bytes, Parameters]]) -> Sequence[list[Row]]:
        if self._kept is None:
            taken = await self._opened().getconn()
            self._kept = taken, Sender(taken, is_prepared=self.location.is_prepared)
        connection, sender = self._kept
        try:
            if len(statements) == 1:
                return [await sender.send(*statements[0])]
            sender.leave()
            return await _send_all(connection, statements)
        except BaseException as error:
            self._kept = None
            sender.leave()
            with anyio.CancelScope(shield=True):
                await self._opened().putconn(connection)  # which looks at what state it is in
            if is_lost(error):
                await self._renew()
            raise

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One in autocommit, for upkeep that takes several statements: `async with connection.transaction()`."""
        with in_our_words(self.shown):
            async with self._opened().connection() as connection:
                yield connection

    def sql(self, text: str) -> bytes:
        """A statement that is put together, with the store's schema in place of `stepflow`."""
        return in_schema(text, self.schema).encode()

    async def _send(self, sql: bytes, parameters: Parameters | None) -> list[Row]:
        async with self._opened().connection() as connection:
            return await _send_one(connection, sql, parameters)

    async def _renew(self) -> None:
        """Drop what else was lost with a connection, so that not everybody has to find out."""
        await self._opened().check()

    def _try_anew(self, pool: AsyncConnectionPool[Connection]) -> None:
        """Ask once more for those who wait: a pool that gave up connecting begins again only for whoever comes then."""
        if pool.get_stats().get("requests_waiting"):
            task = asyncio.create_task(_ask_for_one(pool))
            self._tries.add(task)
            task.add_done_callback(self._tries.discard)

    def _opened(self) -> AsyncConnectionPool[Connection]:
        if self._pool is None:
            raise StoreError(f"{self.shown}: the store is not open; use it inside `async with`")
        return self._pool


async def _send_all(connection: Connection, statements: Sequence[tuple[bytes, Parameters]]) -> Sequence[list[Row]]:
    if len(statements) == 1:
        return [await _send_one(connection, *statements[0])]
    async with connection.pipeline():
        cursors = [await connection.execute(sql, parameters, binary=True) for sql, parameters in statements]
    return [await cursor.fetchall() if cursor.description is not None else [] for cursor in cursors]


async def _send_one(connection: Connection, sql: bytes, parameters: Parameters | None) -> list[Row]:
    cursor = await connection.execute(sql, parameters, binary=True)
    return await cursor.fetchall() if cursor.description is not None else []


@asynccontextmanager
async def connect(conninfo: str, shown: str) -> AsyncIterator[Connection]:
    """A connection of its own in autocommit, outside any pool.

    Raises:
        StoreError: not on asyncio.
        StoreUnavailableError: the server can't be reached.
    """
    require_asyncio()
    with in_our_words(shown):
        async with own_connection(conninfo) as connection:
            _refuse_unfit(connection, shown)
            yield connection


@asynccontextmanager
async def own_connection(conninfo: str) -> AsyncIterator[Connection]:
    """A connection in autocommit, closed at the end whatever happens.

    As a context manager of its own the driver's connection commits first, and stays open when it is cancelled there.
    """
    connection: Connection = await AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    try:
        yield connection
    finally:
        await connection.close()


def _refuse_unfit(connection: Connection, shown: str) -> None:
    """What the server said of itself when it was connected to; nothing has to be asked."""
    info = connection.info
    if info.server_version < OLDEST:
        raise StoreError(f"{shown}: this is PostgreSQL {info.server_version // 10_000}; take version 14 or a later one")
    encoding = info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            f"{shown}: the database's encoding is {encoding}; make one with ENCODING 'UTF8' TEMPLATE template0"
        )
    if info.parameter_status("in_hot_standby") == "on":
        raise StoreError(f"{shown}: this server is a standby; name the primary, or add target_session_attrs=read-write")


def require_asyncio() -> None:
    """Raises StoreError where the event loop is another's, which the driver can't work on."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise StoreError(
            "PostgreSQL needs asyncio: run the engine with asyncio.run() or anyio.run(…, backend='asyncio'); "
            "on Trio take memory or SQLite"
        ) from None


async def _ask_for_one(pool: AsyncConnectionPool[Connection]) -> None:
    with suppress(PoolTimeout, PoolClosed):
        await pool.putconn(await pool.getconn(timeout=ASKED_S))


async def _configure(connection: Connection) -> None:
    register_arrays(connection.adapters)
