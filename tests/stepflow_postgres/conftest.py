"""The store on a real server. The driver works on asyncio only."""

import pytest

from stepflow_postgres.backend import PostgresBackend


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def backend(empty_postgres_url: str) -> PostgresBackend:
    """Empty, and not open yet."""
    return PostgresBackend(empty_postgres_url)
