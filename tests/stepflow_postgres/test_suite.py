"""The store keeps the whole contract."""

import pytest

from stepflow.testing.suites import StoreSuite
from stepflow_postgres.backend import PostgresBackend


class TestPostgresStore(StoreSuite):
    @pytest.fixture
    def backend(self, postgres_url: str) -> PostgresBackend:
        return PostgresBackend(postgres_url)
