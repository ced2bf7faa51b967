"""From what `store=` was given to a store. The one place that reads a store's URL."""

import os
from importlib.metadata import entry_points
from urllib.parse import urlsplit

from stepflow.errors import StoreError
from stepflow.protocols import Backend
from stepflow.stores.memory import MemoryBackend

EXTRAS = {"postgres": "postgres", "postgresql": "postgres"}
"""Schemes of URLs whose store another of our packages brings, and the extra that installs what it needs."""


def open_store(store: str | os.PathLike[str] | Backend | None) -> Backend:
    """The store that a bare path, a URL or a backend stands for; None is memory. It is not opened yet.

    Raises:
        StoreError: nothing that is installed keeps runs there.
    """
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
