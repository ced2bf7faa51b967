"""The open database: one connection, and the one place where transactions begin and end."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from sqlite_utils import Database

from stepflow.errors import StoreError, StoreInUseError
from stepflow.protocols import Clock
from stepflow.stores.sqlite.faults import gone, is_busy, store_error, unavailable
from stepflow.stores.sqlite.lock import FileLock
from stepflow.stores.sqlite.schema import CHECKPOINT_PAGES, check_schema, prepare_schema

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

T = TypeVar("T")

_LEVELS = ("FULL", "NORMAL")
_DELAYS_S = (0.001, 0.002, 0.005, *[0.01] * 10, *[0.05] * 18)
"""The waits before a locked file is tried again; after the last one whoever asked decides."""

CHECK_S = 0.01
"""How long commits trust that nobody has deleted the file: to look costs as much as a statement."""

_LOCK_DELAYS_S = (0.002, 0.01, 0.03)
"""The same for the lock of the engine, which a reader has for a moment while it looks whether there is one."""


class SqliteFile:
    """A database file that is open for one engine, or for looking and asking only.

    Work runs on the loop's own thread: a commit of a group takes less time there than handing it to a writer thread.
    No work awaits, so transactions never overlap.
    """

    def __init__(self, path: Path, *, clock: Clock, synchronous: Synchronous, is_reader: bool) -> None:
        if synchronous not in _LEVELS:
            raise StoreError(f"synchronous={synchronous!r} is neither FULL nor NORMAL")
        self.path = path.resolve()
        self.is_reader = is_reader
        self.clock = clock
        self.fenced: set[str] = set()  # owners that write nothing more; only this process has any that could
        self.numbers: Iterator[int] | None = None  # for the rows of runs, of which nobody else makes any
        self.seen = 0  # the version as somebody saw it last
        self._synchronous = synchronous
        self._lock = FileLock(self.path)
        self._database: Database | None = None
        self._opened: tuple[os.stat_result, ...] = ()
        self._checked_at = 0.0

    @property
    def database(self) -> Database:
        if self._database is None:
            raise StoreError(f"{self.path}: the store is not open; use it inside `async with`")
        return self._database

    async def open(self) -> None:
        """Take the file's lock, bring its schema up to date.

        Raises:
            StoreInUseError: another engine has it.
            StoreError: it is no store of ours, or cannot be written; nothing was changed.
        """
        if self._database is not None:
            raise StoreError(f"{self.path}: the store is open already")
        self.fenced, self.numbers, self.seen = set(), None, 0
        if not self.is_reader:
            await self._take_lock()
        try:
            self._database = await self._patiently(self._connect)
            self._opened = () if self.is_reader else self._files()
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Give the file up.

        Raises:
            StoreError: it was deleted, and what was written since went with it.
        """
        if self._database is None:
            return
        conn, self._database = self._database.conn, None
        try:
            with suppress(sqlite3.Error):
                conn.execute("PRAGMA analysis_limit = 400")
                conn.execute("PRAGMA optimize")
            self._check_files()
        finally:
            conn.close()
            self._lock.release()

    def has_engine(self) -> bool:
        """Whether any process has the file open as its engine."""
        return self._lock.is_held()

    async def write(self, work: Callable[[sqlite3.Connection], T], *, by_readers: bool = False) -> T:
        """What `work` gives; all that it wrote is durable, in one transaction, or nothing is.

        Raises:
            StoreUnavailableError: another program has the file locked, or there is no room; it may be repeated.
            StoreError: the file can't be written, or this is a reader, and readers may not do that.
        """
        if self.is_reader and not by_readers:
            raise StoreError(f"{self.path} is open for looking only; what is to be written goes through its engine")
        if self.is_reader:
            return await self._patiently(lambda: self._transact_once(work))
        return await self._patiently(lambda: self._transact(work))

    async def ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` reads; it must not write. Raises as `write` does."""
        return await self._patiently(lambda: work(self.database.conn))

    def version(self) -> int:
        """A number that changes whenever another process, or another store in this one, has committed."""
        try:
            self.seen = self.database.conn.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error
        return self.seen

    async def _take_lock(self) -> None:
        for delay_s in _LOCK_DELAYS_S:
            try:
                self._lock.acquire()
            except StoreInUseError:
                await self.clock.sleep(delay_s)
        self._lock.acquire()

    async def _patiently(self, attempt: Callable[[], T]) -> T:
        waited_s = 0.0
        for delay_s in (*_DELAYS_S, None):
            try:
                return attempt()
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise store_error(error, self.path) from error
            if delay_s is not None:
                await self.clock.sleep(delay_s)
                waited_s += delay_s
        raise unavailable(self.path, waited_s)

    def _transact_once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        conn = self.database.conn
        conn.execute("PRAGMA query_only = 0")
        try:
            return self._transact(work)
        finally:
            conn.execute("PRAGMA query_only = 1")

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        conn = self.database.conn
        conn.execute("BEGIN IMMEDIATE")
        try:
            answer = work(conn)
            conn.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if conn.in_transaction:
                    conn.execute("ROLLBACK")
            raise
        now = self.clock.now()
        if abs(now - self._checked_at) >= CHECK_S:
            self._checked_at = now
            self._check_files()
        return answer

    def _check_files(self) -> None:
        """Make sure that the names still stand for what is open."""
        if self._opened and not all(map(os.path.samestat, self._opened, self._files())):
            raise gone(self.path)

    def _files(self) -> tuple[os.stat_result, ...]:
        """What the names of the database and of its log stand for now."""
        try:
            return os.stat(self.path), os.stat(f"{self.path}-wal")
        except FileNotFoundError as error:
            raise gone(self.path) from error

    def _connect(self) -> Database:
        if self.is_reader and not self.path.exists():
            raise StoreError(f"{self.path}: there is no such file")
        mode = "rw" if self.is_reader else "rwc"
        conn = sqlite3.connect(f"{self.path.as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=0)
        try:
            database = Database(conn, execute_plugins=False, recursive_triggers=False)
            if self.is_reader:
                conn.execute("PRAGMA query_only = 1")
                check_schema(database, self.path)
            else:
                prepare_schema(database, self.path)
                _try_to_write(conn)
            self._set_durability(conn)
        except BaseException:
            conn.close()
            raise
        return database

    def _set_durability(self, conn: sqlite3.Connection) -> None:
        conn.execute(f"PRAGMA synchronous = {self._synchronous}")
        conn.execute("PRAGMA fullfsync = 1")  # of macOS, whose plain fsync leaves data in the drive's cache
        conn.execute("PRAGMA checkpoint_fullfsync = 1")
        conn.execute("PRAGMA journal_size_limit = 67108864")
        conn.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")


def _try_to_write(conn: sqlite3.Connection) -> None:
    """Fail where the file can be read only: SQLite itself says so with the first change, and not before."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        conn.execute("PRAGMA user_version = 0")
    finally:
        conn.execute("ROLLBACK")
