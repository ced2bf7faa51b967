"""A whole store in one SQLite file."""

import os
from contextlib import nullcontext, suppress
from typing import Self

from sqlite_utils import Database

from stepflow.clock import SystemClock
from stepflow.errors import StoreError
from stepflow.protocols import Clock
from stepflow.stores.sqlite.blobs import SqliteBlobs
from stepflow.stores.sqlite.dispatch import SqliteDispatch
from stepflow.stores.sqlite.file import SqliteFile, Synchronous
from stepflow.stores.sqlite.inbox import SqliteInbox
from stepflow.stores.sqlite.journal import SqliteJournal
from stepflow.stores.sqlite.location import path_of
from stepflow.stores.sqlite.owners import SqliteOwners
from stepflow.stores.sqlite.retention import SqliteRetention
from stepflow.stores.sqlite.runs import SqliteRuns
from stepflow.stores.sqlite.signals import SqliteSignals


class SqliteBackend:
    """The store protocols over a file, for one engine at a time.

    Args:
        location: a path, or a URL such as `sqlite:runs.db`. The file is made when it is not there.
        synchronous: FULL, every commit is on the disk when it is answered; NORMAL, a power cut may take the last
            commits with it (a killed process takes none), though somebody has seen their results.
        clock: waits while another program has the file locked, and says when a row was written.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "FULL",
        clock: Clock | None = None,
    ) -> None:
        self._open_as(location, synchronous, clock or SystemClock(), is_reader=False)

    @classmethod
    def reader(cls, location: str | os.PathLike[str], *, clock: Clock | None = None) -> Self:
        """A store for looking and asking, beside the engine that has the file. The file must exist.

        It sends messages to the engine and deletes runs that have ended; whatever else would write is refused.
        """
        backend = cls.__new__(cls)
        backend._open_as(location, "FULL", clock or SystemClock(), is_reader=True)
        return backend

    def _open_as(
        self, location: str | os.PathLike[str], synchronous: Synchronous, clock: Clock, *, is_reader: bool
    ) -> None:
        self._file = SqliteFile(path_of(location), clock=clock, synchronous=synchronous, is_reader=is_reader)
        self._signals = SqliteSignals(self._file)
        self._journal = SqliteJournal(self._file, self._signals)
        self._runs = SqliteRuns(self._file)
        self._blobs = SqliteBlobs(self._file, clock)
        self._owners = SqliteOwners(self._file)
        self._inbox = SqliteInbox(self._file, self._signals)
        self._dispatch = SqliteDispatch(self._file, self._signals)
        self._retention = SqliteRetention(self._file)

    @property
    def database(self) -> Database:
        """The open database, for looking at it and for its upkeep."""
        return self._file.database

    @property
    def journal(self) -> SqliteJournal:
        return self._journal

    @property
    def runs(self) -> SqliteRuns:
        return self._runs

    @property
    def blobs(self) -> SqliteBlobs:
        return self._blobs

    @property
    def is_durable(self) -> bool:
        return True

    @property
    def is_shared(self) -> bool:
        return False

    @property
    def owners(self) -> SqliteOwners:
        return self._owners

    @property
    def inbox(self) -> SqliteInbox:
        return self._inbox

    @property
    def dispatch(self) -> SqliteDispatch:
        return self._dispatch

    @property
    def signals(self) -> SqliteSignals:
        return self._signals

    @property
    def retention(self) -> SqliteRetention:
        return self._retention

    async def __aenter__(self) -> Self:
        await self._file.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        with suppress(StoreError) if exc[0] else nullcontext():
            self._file.close()
