"""What the page on PostgreSQL says of roles."""

import re
from pathlib import Path

import pytest
from engine_work import work
from postgres_server import PostgresServer, execute

from stepflow_postgres.backend import PostgresBackend
from stepflow_postgres.migrate import migrate

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "postgres.md"


@pytest.fixture
def grants() -> str:
    [block] = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(block)


@pytest.fixture
def server(own_postgres: PostgresServer) -> PostgresServer:
    """A server with a role that may make schemas."""
    own_postgres.execute("CREATE ROLE stepflow_owner LOGIN")
    own_postgres.execute("GRANT CREATE ON DATABASE postgres TO stepflow_owner")
    return own_postgres


def as_role(server: PostgresServer, role: str) -> str:
    return server.url.replace("postgres@", f"{role}@")


async def test_engines_need_no_more_than_the_page_says(server: PostgresServer, grants: str):
    await migrate(as_role(server, "stepflow_owner"))
    server.execute(grants)
    url = as_role(server, "stepflow_engine") + "&auto_migrate=0"

    async with PostgresBackend(url) as store, PostgresBackend(url) as other:
        await work(store, other)

        assert [engine.owner for engine in await store.owners.engines()] == ["engine-9"]


async def test_what_a_later_migration_makes_is_granted_too(server: PostgresServer, grants: str):
    await migrate(as_role(server, "stepflow_owner"))
    server.execute(grants)

    execute(as_role(server, "stepflow_owner"), "CREATE TABLE stepflow._later (n integer)")

    assert execute(as_role(server, "stepflow_engine"), "SELECT count(*) FROM stepflow._later") == [(0,)]
