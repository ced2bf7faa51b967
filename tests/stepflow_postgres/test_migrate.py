"""How a database comes to have the schema."""

from pathlib import Path

import anyio
import pytest
from postgres_server import execute

from stepflow.errors import StoreError, StoreUnavailableError
from stepflow.testing.suites.writes import Ids, begin, enter, record
from stepflow_postgres.backend import PostgresBackend
from stepflow_postgres.migrate import migrate, status
from stepflow_postgres.statements import migrations

pytestmark = pytest.mark.anyio

NAMES = tuple(name for name, _ in migrations())


def schema_of(url: str) -> str:
    return url.rpartition("schema=")[2]


async def test_the_schema_is_made_once_and_then_found(postgres_url: str):
    before = await status(postgres_url)
    first = await migrate(postgres_url)
    second = await migrate(postgres_url)
    after = await status(postgres_url)

    assert (before.applied, before.pending, before.is_current) == ((), NAMES, False)
    assert (first, second) == (NAMES, ())
    assert (after.applied, after.pending, after.is_current) == (NAMES, (), True)


async def test_engines_that_start_at_once_make_it_once(postgres_url: str):
    opened: list[PostgresBackend] = []

    async def start() -> None:
        async with PostgresBackend(postgres_url) as backend:
            opened.append(backend)
            assert await backend.runs.list() == []

    async with anyio.create_task_group() as engines:
        for _ in range(6):
            engines.start_soon(start)

    assert len(opened) == 6
    assert (await status(postgres_url)).applied == NAMES


async def test_without_the_switch_an_older_schema_is_refused_with_what_to_run(postgres_url: str):
    for url, options in ((postgres_url, {"auto_migrate": False}), (f"{postgres_url}&auto_migrate=0", {})):
        with pytest.raises(
            StoreError,
            match=r"0001_tables, 0002_views, .*, 0005_deleted, 0006_queued; run `stepflow migrate`",
        ):
            await PostgresBackend(url, **options).__aenter__()

    assert (await status(postgres_url)).applied == ()


async def test_without_the_switch_a_current_schema_is_opened(postgres_url: str):
    await migrate(postgres_url)

    async with PostgresBackend(postgres_url, auto_migrate=False) as backend:
        assert await backend.runs.list() == []


async def test_what_was_stored_stays_when_the_rest_is_applied(
    postgres_url: str, ids: Ids, monkeypatch: pytest.MonkeyPatch
):
    whole = migrations()
    with monkeypatch.context() as patched:
        patched.setattr("stepflow_postgres.migrate.migrations", lambda: whole[:1])
        async with PostgresBackend(postgres_url) as backend:
            await enter(backend, "engine-1")
            run = await begin(backend, record(ids.draw()))

    async with PostgresBackend(postgres_url) as backend:
        stored = await backend.runs.get(run)

    assert (await status(postgres_url)).applied == NAMES
    assert stored is not None


async def test_a_newer_schema_is_refused_and_left_as_it_is(postgres_server_url: str, postgres_url: str):
    await migrate(postgres_url)
    execute(postgres_server_url, f"INSERT INTO {schema_of(postgres_url)}._migrations VALUES ('0999_later', now())")

    for refused in (lambda: migrate(postgres_url), PostgresBackend(postgres_url).__aenter__):
        with pytest.raises(StoreError, match="a newer version made this store .it has 0999_later.; run `pip install"):
            await refused()

    assert (await status(postgres_url)).unknown == ("0999_later",)


async def test_a_migration_that_fails_leaves_nothing(postgres_server_url: str, postgres_url: str):
    schema = schema_of(postgres_url)
    execute(postgres_server_url, f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.items (mine integer)")

    with pytest.raises(StoreError, match='relation "items" already exists'):
        await migrate(postgres_url)

    tables = execute(postgres_server_url, f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")
    assert tables == [("items",)]


async def test_a_schema_is_used_by_a_role_that_may_not_make_one(postgres_server_url: str, postgres_url: str):
    schema, role = schema_of(postgres_url), f"role_{schema_of(postgres_url)}"
    execute(postgres_server_url, f"CREATE ROLE {role} LOGIN; CREATE SCHEMA {schema} AUTHORIZATION {role}")
    url = f"{postgres_url}&user={role}"
    try:
        applied = await migrate(url)
        async with PostgresBackend(url) as backend:
            assert await backend.runs.list() == []
    finally:
        execute(postgres_server_url, f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")

    assert applied == NAMES


async def test_a_role_without_rights_is_told_so(postgres_server_url: str, postgres_url: str):
    role = f"role_{schema_of(postgres_url)}"
    await migrate(postgres_url)
    execute(postgres_server_url, f"CREATE ROLE {role} LOGIN")
    try:
        with pytest.raises(StoreError, match="grant it the rights on the schema"):
            await status(f"{postgres_url}&user={role}")
    finally:
        execute(postgres_server_url, f"DROP ROLE {role}")


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path):
    with pytest.raises(StoreUnavailableError, match="see that it runs and can be reached"):
        await status(f"postgresql://ann:hidden@/work?host={tmp_path}")


async def test_a_database_that_is_not_there_is_named(postgres_server_url: str):
    url = postgres_server_url.replace("/postgres?", "/nowhere?")

    with pytest.raises(StoreError, match="nowhere"):
        await status(url)


async def test_a_database_of_another_encoding_is_refused(postgres_server_url: str):
    execute(postgres_server_url, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StoreError, match="encoding is LATIN1; make one with ENCODING 'UTF8'"):
            await status(postgres_server_url.replace("/postgres?", "/latin?"))
    finally:
        execute(postgres_server_url, "DROP DATABASE latin")


@pytest.fixture
def ids() -> Ids:
    return Ids()


async def test_engines_that_open_a_fresh_database_at_once_wait_for_each_other(postgres_url: str):
    opened: list[PostgresBackend] = []

    async def open_and_use(number: int) -> None:
        async with PostgresBackend(postgres_url) as backend:
            await enter(backend, f"engine-{number}")
            opened.append(backend)

    async with anyio.create_task_group() as engines:
        for number in range(6):
            engines.start_soon(open_and_use, number)

    assert len(opened) == 6
    assert (await status(postgres_url)).applied == NAMES
