"""A whole store in a PostgreSQL database, for any number of engines at once."""

import hashlib
import os
from typing import Self

from stepflow.clock import SystemClock
from stepflow.protocols import Clock
from stepflow_postgres.blobs import PostgresBlobs
from stepflow_postgres.connection import Database, connect
from stepflow_postgres.dispatch import PostgresDispatch
from stepflow_postgres.inbox import PostgresInbox
from stepflow_postgres.journal import PostgresJournal
from stepflow_postgres.location import Location, read_location
from stepflow_postgres.migrate import apply_pending, refuse_newer, refuse_older, schema_status
from stepflow_postgres.owners import PostgresOwners
from stepflow_postgres.retention import PostgresRetention
from stepflow_postgres.runs import PostgresRuns
from stepflow_postgres.signals import PostgresSignals


class PostgresBackend:
    """The store protocols over a database that several engines share.

    Args:
        url: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`. Of its parameters these are ours: `schema` (default
            stepflow), `prepare=0` (behind a pooler that can't have prepared statements), `pool_size` (default 10),
            `auto_migrate=0`, `listen` (a URL, or 0), `listen_host` and `listen_port` (where to listen past a pooler);
            the others are libpq's.
        auto_migrate: make the schema, or bring it up to date, when the store is opened. False: refuse an older one.
        listen_url: where to listen for news, if that is another place altogether.
        clock: says when a blob was last used.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        auto_migrate: bool | None = None,
        listen_url: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._location = location = read_location(os.fspath(url), listen_url=listen_url)
        self._auto_migrate = location.auto_migrate if auto_migrate is None else auto_migrate
        self._database = database = Database(location)
        self._signals = signals = PostgresSignals(
            location.conninfo, listen=location.listen_conninfo, channel=_channel(location), clock=clock
        )
        self._journal = PostgresJournal(database, signals)
        self._runs = PostgresRuns(database)
        self._blobs = PostgresBlobs(database, clock or SystemClock())
        self._owners = PostgresOwners(database, signals)
        self._inbox = PostgresInbox(database, signals)
        self._dispatch = PostgresDispatch(database, signals)
        self._retention = PostgresRetention(database)

    @property
    def database(self) -> Database:
        """Where statements are sent, for looking and for upkeep."""
        return self._database

    @property
    def journal(self) -> PostgresJournal:
        return self._journal

    @property
    def runs(self) -> PostgresRuns:
        return self._runs

    @property
    def blobs(self) -> PostgresBlobs:
        return self._blobs

    @property
    def is_durable(self) -> bool:
        return True

    @property
    def is_shared(self) -> bool:
        return True

    @property
    def owners(self) -> PostgresOwners:
        return self._owners

    @property
    def inbox(self) -> PostgresInbox:
        return self._inbox

    @property
    def dispatch(self) -> PostgresDispatch:
        return self._dispatch

    @property
    def signals(self) -> PostgresSignals:
        return self._signals

    @property
    def retention(self) -> PostgresRetention:
        return self._retention

    async def __aenter__(self) -> Self:
        await self._prepare_schema()
        await self._database.open()
        try:
            await self._signals.__aenter__()
        except BaseException:
            await self._database.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._signals.__aexit__(None, None, None)
        finally:
            await self._database.close()

    async def _prepare_schema(self) -> None:
        """On a connection of its own, whose errors say at once what is wrong."""
        location = self._location
        async with connect(location.conninfo, location.shown) as connection:
            found = await schema_status(connection, location)
            refuse_newer(found)
            if found.is_current:
                return
            if not self._auto_migrate:
                refuse_older(found)
            await apply_pending(connection, location)


def _channel(location: Location) -> str:
    """Notifications are the whole database's, so the schema is part of the name."""
    return f"stepflow_{hashlib.sha256(location.schema.encode()).hexdigest()[:16]}"
