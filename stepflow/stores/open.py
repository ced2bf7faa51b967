"""From what `store=` was given to a store. The one place that reads a store's URL."""

import os
from importlib.metadata import entry_points
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from stepflow.errors import StoreError
from stepflow.protocols import Backend, BlobStore
from stepflow.stores.apart import BackendWithBlobs
from stepflow.stores.memory import MemoryBackend

EXTRAS = {"postgres": "postgres", "postgresql": "postgres"}
"""Schemes of URLs whose store another of our packages brings, and the extra that installs what it needs."""


Location: TypeAlias = str | os.PathLike[str]


def open_store(store: Location | Backend | None, *, blobs: Location | BlobStore | None = None) -> Backend:
    """The store that a bare path, a URL or a backend stands for; None is memory. It is not opened yet.

    Args:
        blobs: the store of its blobs, see `open_blobs`; None: they are kept beside the runs.

    Raises:
        StoreError: nothing that is installed keeps runs there, or blobs that are kept too short a time.
    """
    if blobs is not None:
        return BackendWithBlobs(open_store(store), open_blobs(blobs))
    if store is None:
        return MemoryBackend()
    if not isinstance(store, str | os.PathLike):
        return store
    text = os.fspath(store)
    scheme = urlsplit(text).scheme if "://" in text or text.startswith("memory:") else "sqlite"
    if scheme == "memory":
        return MemoryBackend()
    if scheme == "sqlite":
        from stepflow.stores.sqlite.backend import SqliteBackend  # keeps sqlite3 out of engines in memory

        return SqliteBackend(text)
    for entry in entry_points(group="stepflow.stores", name=scheme):
        try:
            backend: Backend = entry.load()(text)
        except ModuleNotFoundError as missing:
            raise StoreError(f'a store for URLs of "{scheme}:" needs {missing.name}; {_remedy(scheme)}') from missing
        return backend
    raise StoreError(f'no store for URLs of "{scheme}:" is installed; {_remedy(scheme)}')


def open_blobs(blobs: Location | BlobStore) -> BlobStore:
    """The store that a directory, the URL of a store of runs or a backend stands for. It is not opened yet.

    Raises:
        StoreError: nothing that is installed keeps blobs there.
    """
    if not isinstance(blobs, str | os.PathLike):
        return blobs
    from stepflow.stores.files import FileBlobs  # keeps threads and temporary files out of engines without it

    text = os.fspath(blobs)
    if text.startswith("file:"):
        return FileBlobs(unquote(urlsplit(text).path) or None)
    return open_store(text) if "://" in text or text.startswith(("sqlite:", "memory:")) else FileBlobs(text)


def _remedy(scheme: str) -> str:
    if scheme in EXTRAS:
        return f"add it with: pip install 'stepflow-engine[{EXTRAS[scheme]}]'"
    return "take a path (a SQLite file), or leave it out (memory)"


def open_reader(store: str | os.PathLike[str] | Backend) -> Backend:
    """A store for looking at runs and for asking their owners for something, beside the engines that have it.

    Raises:
        StoreError: what is there can't be seen from outside, as a store in memory.
    """
    if not isinstance(store, str | os.PathLike):
        return store
    text = os.fspath(store)
    scheme = urlsplit(text).scheme if "://" in text or text.startswith("memory:") else "sqlite"
    if scheme == "memory":
        raise StoreError("runs in memory can only be seen by the program that runs them; name a store that keeps them")
    if scheme == "sqlite":
        from stepflow.stores.sqlite.backend import SqliteBackend  # as above

        return SqliteBackend.reader(text)
    return open_store(text)
