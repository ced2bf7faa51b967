"""The store keeps the whole contract."""

import pytest

from stepflow.protocols import Backend
from stepflow.testing.suites import SharedStoreSuite
from stepflow_postgres.backend import PostgresBackend

EXPIRE = "UPDATE stepflow._engines SET expires_at = clock_timestamp() - interval '1 second' WHERE owner = %(owner)s"


class TestPostgresStore(SharedStoreSuite):
    @pytest.fixture
    def backend(self, empty_postgres_url: str) -> PostgresBackend:
        return PostgresBackend(empty_postgres_url)

    @pytest.fixture
    def another(self, empty_postgres_url: str) -> PostgresBackend:
        return PostgresBackend(empty_postgres_url)

    async def let_expire(self, store: Backend, owner: str) -> None:
        assert isinstance(store, PostgresBackend)
        await store.database.write_sql(store.database.sql(EXPIRE), {"owner": owner})


@pytest.mark.slow
class TestPostgresStoreWithoutPreparedStatements(TestPostgresStore):
    @pytest.fixture
    def empty_postgres_url(self, empty_postgres_url: str) -> str:
        return f"{empty_postgres_url}&prepare=0"
