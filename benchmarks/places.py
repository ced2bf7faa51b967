"""Where a benchmark keeps what it stores: our store, that of a peer and the bare table, on the same disk or server."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from durable_limit import Bare, BarePostgres, BareSqlite
from postgres import is_postgres, server_url


class Places(NamedTuple):
    kind: str
    store: str | None  # what `Engine(store=…)` takes
    peer: str  # the URL by which other programs find theirs
    bare: Callable[[], Bare] | None  # a table without anything around it; None: memory


@contextmanager
def places_for(store: str) -> Iterator[Places]:
    """Fresh ones for `memory`, `sqlite` or `postgres`; a URL of PostgreSQL is used as it stands."""
    if store == "memory":
        yield Places("memory", None, "", None)
    elif store == "postgres":
        with server_url() as url:
            yield _in_postgres(url)
    elif is_postgres(store):
        yield _in_postgres(store)
    else:
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            path = Path(folder if store == "sqlite" else store)
            bare, ours = str(path / "bare.db"), str(path / "runs.db")
            yield Places("sqlite", ours, f"sqlite:///{path / 'peer.db'}", lambda: BareSqlite(bare))


def _in_postgres(url: str) -> Places:
    return Places("postgres", url, url, lambda: BarePostgres(url))
