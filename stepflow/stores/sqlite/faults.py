"""What SQLite's errors mean for whoever called, and what can be done about them."""

import sqlite3
from pathlib import Path

from stepflow.errors import StoreError, StoreUnavailableError

_FACTS = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_READONLY: "the file cannot be written; give the user of this process the right to write to the file "
    "and its folder",
    sqlite3.SQLITE_PERM: "no permission to use the file; give the user of this process the right to write to it",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; see that its folder exists and may be written to",
    sqlite3.SQLITE_NOTADB: "this is not a SQLite database; name another file",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy, or save what is readable with "
    "`sqlite3 FILE .recover`",
    sqlite3.SQLITE_IOERR: "reading or writing the file failed; look for faults of the disk, and for limits on what "
    "this process may write (its quota, its largest file)",
    sqlite3.SQLITE_TOOBIG: "a value is larger than the gigabyte that SQLite can keep; hand it over as a file",
}

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)

_MAY_PASS = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMMAP,
)
"""What somebody can put right while the engine goes on: space, a quota, a disk that is connected again."""


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process is in the way, so that trying again may help."""
    return _code(error) & 0xFF in _BUSY  # the upper bits tell the kinds of one code apart


def unavailable(path: Path, waited_s: float) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"{path}: another program has kept the file locked for {waited_s:.1f} s; nothing was written"
    )


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """The same failure in the package's words."""
    code = _code(error)
    fact = _FACTS.get(code & 0xFF)
    text = f"{path}: {fact} ({error})" if fact is not None else f"{path}: {error}"
    return StoreUnavailableError(text) if code in _MAY_PASS else StoreError(text)


def damaged(path: Path, what: str) -> StoreError:
    return StoreError(f"{path}: {what}; the file is damaged: restore it from a copy")


def gone(path: Path) -> StoreError:
    return StoreError(
        f"{path}: the file, or the write-ahead log beside it, was deleted or replaced while the store was open; "
        "what was written last may be lost: put a copy back, and open it again"
    )


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)
