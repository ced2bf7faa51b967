"""What is sent past the driver's cursors."""

from collections.abc import AsyncIterator

import anyio
import psycopg
import pytest
from psycopg import AsyncConnection

from stepflow.records import Committed
from stepflow.testing.suites.writes import Ids, begin, enter, entries, record, write
from stepflow_postgres.arrays import ints, texts
from stepflow_postgres.backend import PostgresBackend
from stepflow_postgres.sender import Sender

pytestmark = pytest.mark.anyio

PREPARED = b"SELECT count(*) FROM pg_prepared_statements"


@pytest.fixture
async def connection(postgres_server_url: str) -> AsyncIterator[AsyncConnection]:
    async with await AsyncConnection.connect(postgres_server_url, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("is_prepared", [True, False])
async def test_strings_bytes_and_arrays_go_there_and_come_back(connection: AsyncConnection, is_prepared: bool) -> None:
    sender = Sender(connection, is_prepared=is_prepared)
    sql = b"SELECT %(text)s, %(raw)s, %(numbers)s, (%(words)s)[2], %(text)s || '!'"
    given = {"text": "ünï%s", "raw": b"\0\xff", "numbers": ints([1, None, -(2**63)]), "words": texts(["a", None])}

    found = [await sender.send(sql, given) for _ in range(2)]

    assert found == [[("ünï%s", b"\0\xff", [1, None, -(2**63)], None, "ünï%s!")]] * 2


@pytest.mark.parametrize(("is_prepared", "statements"), [(True, 2), (False, 0)])
async def test_a_statement_is_prepared_once_if_at_all(
    connection: AsyncConnection, is_prepared: bool, statements: int
) -> None:
    sender = Sender(connection, is_prepared=is_prepared)

    for text in ("a", "b", "c"):
        await sender.send(b"SELECT %(text)s", {"text": text})

    assert await sender.send(PREPARED, {}) == [(statements,)]


async def test_more_than_the_socket_takes_at_once_is_sent_and_read(connection: AsyncConnection) -> None:
    sender, much = Sender(connection, is_prepared=True), b"x" * 20_000_000

    [(back, length)] = await sender.send(b"SELECT %(raw)s, length(%(raw)s)", {"raw": much})

    assert length == len(much)
    assert back == much


async def test_after_an_error_the_connection_goes_on(connection: AsyncConnection) -> None:
    sender = Sender(connection, is_prepared=True)

    with pytest.raises(psycopg.errors.UndefinedTable):
        await sender.send(b"SELECT FROM of_nothing", {})
    with pytest.raises(psycopg.errors.DivisionByZero):
        await sender.send(b"SELECT 1 / (%(numbers)s)[1]", {"numbers": ints([0])})

    assert await sender.send(b"SELECT 1 / (%(numbers)s)[1]", {"numbers": ints([1])}) == [(1,)]


async def test_a_connection_that_the_server_ends_is_an_error_of_the_driver(
    connection: AsyncConnection, postgres_server_url: str
) -> None:
    sender = Sender(connection, is_prepared=True)
    [(pid,)] = await sender.send(b"SELECT pg_backend_pid()", {})

    with psycopg.connect(postgres_server_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    with pytest.raises(psycopg.OperationalError):
        await sender.send(b"SELECT 1", {})


async def test_after_a_commit_was_broken_off_the_next_one_is_stored(
    backend: PostgresBackend, postgres_server_url: str
) -> None:
    ids = Ids()
    async with backend as store:
        await enter(store, "engine-1")
        run, other = [await begin(store, record(ids.draw())) for _ in range(2)]
        blocked = store.database.sql("SELECT count(*) FROM pg_locks WHERE NOT granted").decode()

        async with store.database.connection() as holding, holding.transaction():
            await holding.execute(store.database.sql("LOCK TABLE stepflow._entries"))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.journal.commit, [write(run, 2, ["broken off"])])
                with anyio.fail_after(60):
                    while (await store.database.ask_sql(blocked.encode())) == [(0,)]:
                        await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()

        assert list(await store.journal.commit([write(other, 2, ["after"])])) == [Committed()]
        assert await entries(store, other) == [(1, "begun"), (2, "after")]
