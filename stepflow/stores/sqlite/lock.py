"""One engine a file: a lock of the operating system, which ends with the process that holds it."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from stepflow.errors import StoreError, StoreInUseError

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)  # beyond the text: a locked byte can't be read by others
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    _try_share = _try_lock

else:
    import fcntl

    def _try_lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _try_share(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


_HELD = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)


class FileLock:
    """A lock on a file beside the database, which names the process that holds it.

    Beside it, because SQLite's own locks on the database are lost when the process closes any other handle to it.
    """

    def __init__(self, path: Path) -> None:
        self._guarded = path
        self._path = path.with_name(path.name + "-lock")
        self._file: IO[bytes] | None = None

    def acquire(self) -> None:
        """Take the lock, without waiting.

        Raises:
            StoreInUseError: another process has it.
            StoreError: the file beside the database cannot be made.
        """
        while self._file is None:
            file = self._open()
            try:
                self._lock(file)
            except BaseException:
                file.close()
                raise
            if self._is_current(file):
                self._file = file
            else:
                file.close()  # its holder has just removed it: another file has the name now

    def release(self) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # where open files cannot be removed it stays, which harms nobody
            self._path.unlink(missing_ok=True)
        self._file.close()
        self._file = None

    def is_held(self) -> bool:
        """Whether anybody has the lock now. It is tried for a moment, and others that look at the same time may."""
        if self._file is not None:
            return True
        try:
            with open(self._path, "rb", buffering=0) as file:
                _try_share(file.fileno())
        except FileNotFoundError:
            return False
        except OSError as error:
            return error.errno in _HELD
        return False

    def _open(self) -> IO[bytes]:
        try:
            return open(self._path, "a+b", buffering=0)
        except OSError as error:
            remedy = "see that its folder exists and may be written to"
            raise StoreError(f"{self._guarded}: the store cannot be opened: {error.strerror}; {remedy}") from error

    def _lock(self, file: IO[bytes]) -> None:
        try:
            _try_lock(file.fileno())
        except OSError as error:
            if error.errno not in _HELD:
                raise StoreError(
                    f"{self._guarded}: the file system cannot lock files ({error.strerror}); put it on a local disk"
                ) from error
            pid = _pid(file)
            raise StoreInUseError(
                f"{self._guarded} is used by {_named(pid)}, and a SQLite store serves one engine at a time; "
                "stop that one, or give each engine a file of its own (several share runs through PostgreSQL)",
                pid=pid,
            ) from None
        file.truncate(0)
        file.write(b"%d\n" % os.getpid())

    def _is_current(self, file: IO[bytes]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False


def _pid(file: IO[bytes]) -> int | None:
    file.seek(0)
    pid = file.read(20).strip()
    return int(pid) if pid.isdigit() else None


def _named(pid: int | None) -> str:
    if pid is None:
        return "another process"
    return "this process already" if pid == os.getpid() else f"process {pid}"
