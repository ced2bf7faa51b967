"""Blobs as files of a directory, `xx/ID.blob` each: the content, then what it is as JSON, then the content's length.

Several processes may have the directory open at once, on one machine or on a file system that they share. A file is
written beside its place, made durable, and linked to it; so it is there whole or not at all, and the first one stays.
Its time of modification says when it was last used.
"""

import errno
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import anyio
import anyio.to_thread
import msgspec

from stepflow.clock import SystemClock
from stepflow.errors import StoreError, StoreUnavailableError
from stepflow.protocols import Clock
from stepflow.records import Blob, BlobId, BlobType
from stepflow.records import blob_id as content_id

TOUCH_AFTER_S = 3_600.0
"""A use of a blob is noted when the last note is older than this."""

THREADS = 8
"""How many files are read or written at the same time."""

T = TypeVar("T")

_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE)
"""What somebody can put right while the engine goes on: space, a quota, a file server that is away."""

_UNLINKABLE = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
_LENGTH = struct.Struct("<Q")
_DIGITS = frozenset("0123456789abcdef")


class _Note(msgspec.Struct):
    """What stands behind the content."""

    blob_type: BlobType = BlobType.DATA
    filename: str | None = None


class FileBlobs:
    """A blob store in a directory, which is made where it is not there.

    Args:
        directory: None: a temporary one, which is deleted when the store is closed.
        clock: says when a blob was last used.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, clock: Clock | None = None) -> None:
        self._directory = None if directory is None else Path(directory)
        self._clock = clock or SystemClock()
        self._open: Path | None = None
        self._threads: anyio.CapacityLimiter
        self._unseen: Iterator[Path] | None = None  # where pruning goes on

    def __str__(self) -> str:
        return str(self._open or self._directory)

    @property
    def blobs(self) -> Self:
        return self

    @property
    def retention(self) -> Self:
        return self

    @property
    def is_durable(self) -> bool:
        return self._directory is not None

    async def __aenter__(self) -> Self:
        self._threads = anyio.CapacityLimiter(THREADS)
        self._open = await self._in_thread(self._made)
        return self

    async def __aexit__(self, *exc: object) -> None:
        directory, self._open = self._open, None
        if self._directory is None and directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        id = content_id(content)
        note = msgspec.json.encode(_Note(type, filename))
        await self._in_thread(partial(self._put, self._path(id), bytes(content), note, self._clock.now()))
        return id

    async def get(self, blob_id: BlobId) -> Blob | None:
        if len(blob_id) != 64 or not _DIGITS.issuperset(blob_id):
            return None
        path = self._path(blob_id)
        stored = await self._in_thread(partial(self._get, path, self._clock.now()))
        if stored is None:
            return None
        try:
            (length,) = _LENGTH.unpack(stored[-_LENGTH.size :])
            note = msgspec.json.decode(stored[length : -_LENGTH.size], type=_Note)
        except (struct.error, msgspec.MsgspecError) as error:
            raise _damaged(path) from error
        if content_id(stored[:length]) != blob_id:
            raise _damaged(path)
        return Blob(blob_id, stored[:length], note.blob_type, note.filename)

    async def prune_blobs(self, *, untouched_before: float, limit: int = 100) -> int:
        """See `BlobRetention`. Each call goes on where the one before ended, and begins anew after the last file."""
        before = untouched_before - TOUCH_AFTER_S
        cut_before = min(before, self._clock.now() - TOUCH_AFTER_S)  # what is being written now is left alone
        return await self._in_thread(partial(self._prune, before, cut_before, limit))

    @property
    def _root(self) -> Path:
        if self._open is None:
            raise StoreError("the directory of blobs is not open; use it inside `async with`")
        return self._open

    def _path(self, id: BlobId) -> Path:
        return self._root / id[:2] / f"{id}.blob"

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            with self._clock.busy():
                return await anyio.to_thread.run_sync(work, limiter=self._threads)
        except OSError as error:
            raise _store_error(error, self._open or self._directory) from error

    def _made(self) -> Path:
        if self._directory is None:
            return Path(tempfile.mkdtemp(prefix="stepflow-blobs-"))
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory.resolve()

    def _put(self, path: Path, content: bytes, note: bytes, now: float) -> None:
        if _touched(path, now):
            return
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.writelines((content, note, _LENGTH.pack(len(content))))
                file.flush()
                os.fsync(handle)
            os.utime(name, (now, now))
            _link(name, path)
        finally:
            os.unlink(name)
        _sync(path.parent)

    def _get(self, path: Path, now: float) -> bytes | None:
        try:
            stored = path.read_bytes()
            _touched(path, now)
        except FileNotFoundError:
            return None
        return stored

    def _prune(self, before: float, cut_before: float, limit: int) -> int:
        count = 0
        unseen = self._unseen or (path for folder in sorted(self._root.iterdir()) for path in _files(folder))
        self._unseen = None
        for path in unseen:
            count += _dropped(path, before if path.suffix == ".blob" else cut_before)
            if count == limit:
                self._unseen = unseen
                break
        return count


def _touched(path: Path, now: float) -> bool:
    """Note that a file is used. False: there is none."""
    try:
        if path.stat().st_mtime < now - TOUCH_AFTER_S:
            os.utime(path, (now, now))
    except FileNotFoundError:
        return False
    return True


def _link(name: str, path: Path) -> None:
    """Let a file be found, unless there is one."""
    try:
        os.link(name, path)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _UNLINKABLE:
            raise
        shutil.copyfile(name, f"{name}.copy")  # a file system without hard links: the last one stays
        os.replace(f"{name}.copy", path)


def _sync(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(folder: Path) -> list[Path]:
    """The files in a folder of blobs, with what a write or a deletion that was cut off has left."""
    if len(folder.name) != 2 or not _DIGITS.issuperset(folder.name):
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in (".blob", ".tmp", ".gone", ".copy"))


def _dropped(path: Path, before: float) -> bool:
    """Delete a file that was not used since. One that is used at this moment is put back, and found again."""
    gone = path.with_suffix(".gone")
    try:
        if path.stat().st_mtime >= before:
            return False
        path.rename(gone)
        if gone.stat().st_mtime >= before:
            gone.rename(path)
            return False
        gone.unlink()
    except FileNotFoundError:  # another process deletes it too
        return False
    return path.suffix == ".blob"


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path}: the blob is not what was written; the file is damaged: restore it from a copy")


def _store_error(error: OSError, directory: Path | None) -> StoreError:
    text = f"blobs in {directory}: {error.strerror or error}"
    if error.errno in _MAY_PASS:
        return StoreUnavailableError(f"{text}; what was to be written was not")
    return StoreError(f"{text}; see that the directory can be made and written to by the user of this process")
