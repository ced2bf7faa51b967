"""The SQLite store is a store like any other."""

from pathlib import Path

import pytest

from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.suites.store import StoreSuite


class TestSqliteBackend(StoreSuite):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> SqliteBackend:
        return SqliteBackend(tmp_path / "runs.db")
