"""A PostgreSQL server that can be made to crash."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "servers"))

from postgres_server import PostgresServer, running_server  # noqa: E402


class Database:
    """A server of its own."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.url = server.url

    def crash_and_start(self) -> None:
        """Shut down at once, as after a power cut but for the disk; then start, which recovers from the log."""
        self._server.restart("immediate")


@contextmanager
def database() -> Iterator[Database]:
    """With the settings that keep what is committed, gone at the end."""
    with running_server({}) as server:
        yield Database(server)
