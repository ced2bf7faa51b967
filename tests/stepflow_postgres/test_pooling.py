"""Behind a pooler that hands each transaction to any session."""

from collections.abc import Iterator
from urllib.parse import quote

import anyio
import psycopg
import pytest
from engine_work import work
from pooling_proxy import PoolingProxy, pooled

from stepflow.errors import StoreError
from stepflow.protocols import Backend
from stepflow.records import Committed, Lease
from stepflow.testing.suites import SharedStoreSuite
from stepflow.testing.suites.writes import Ids, begin, enter, entries, record, write
from stepflow_postgres.backend import PostgresBackend

pytestmark = pytest.mark.anyio

SESSIONS = 3
EXPIRE = "UPDATE stepflow._engines SET expires_at = clock_timestamp() - interval '1 second' WHERE owner = %(owner)s"
LEFT = """
SELECT
    (SELECT count(*) FROM pg_prepared_statements),
    (SELECT count(*) FROM pg_listening_channels()),
    (SELECT count(*) FROM pg_settings WHERE source = 'session'),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_cursors WHERE name <> ''),
    (SELECT count(*) FROM pg_class WHERE relpersistence = 't')
"""


@pytest.fixture
def pooler(empty_postgres_url: str) -> Iterator[tuple[str, PoolingProxy]]:
    with pooled(empty_postgres_url, sessions=SESSIONS) as (url, proxy):
        yield f"{url}&prepare=0", proxy


async def test_what_engines_do_leaves_nothing_on_a_session(pooler):
    url, proxy = pooler

    async with PostgresBackend(f"{url}&listen=0") as store, PostgresBackend(f"{url}&listen=0") as other:
        await work(store, other)
    plain = url.partition("&schema=")[0]
    with psycopg.connect(plain, autocommit=True, prepare_threshold=None) as connection:
        left = [connection.execute(LEFT).fetchone() for _ in range(SESSIONS)]

    assert min(proxy.transactions) > 5
    assert left == [(0, 0, 0, 0, 0, 0)] * SESSIONS


async def test_a_heartbeat_goes_through_a_pooler_too(pooler):
    url, _ = pooler

    async with PostgresBackend(f"{url}&listen=0") as store:
        entered = await enter(store, "engine-1")
        async with store.owners.keep_alive("engine-1"):
            with anyio.fail_after(60):
                while (await store.owners.engines()) == [entered]:
                    await anyio.sleep(0.01)
        [beaten] = await store.owners.engines()

    assert (beaten.expires_at or 0) > (entered.expires_at or 0)


async def test_engines_that_write_at_once_share_few_sessions(pooler):
    url, proxy = pooler
    ids = Ids()

    async def engine(number: int) -> None:
        async with PostgresBackend(f"{url}&listen=0") as store:
            await enter(store, f"engine-{number}")
            lease = Lease(f"engine-{number}", 1)
            run = await begin(store, record(ids.draw()), lease=lease)
            for position in range(2, 22):
                assert list(await store.journal.commit([write(run, position, [position], lease=lease)])) == [
                    Committed()
                ]
            journals.append([position for position, _ in await entries(store, run)])

    journals: list[list[int]] = []
    with anyio.fail_after(120):
        async with anyio.create_task_group() as engines:
            for number in range(6):
                engines.start_soon(engine, number)

    assert journals == [list(range(1, 22))] * 6
    assert len(proxy.transactions) == SESSIONS


async def test_prepared_statements_behind_such_a_pooler_are_refused_with_what_to_write(pooler):
    url, _ = pooler

    async def use() -> None:
        async with PostgresBackend(url.replace("&prepare=0", "&listen=0")) as store:
            for _ in range(20):
                await store.owners.engines()

    with pytest.raises(StoreError, match=r"add \?prepare=0 to the URL"):
        await use()


@pytest.mark.slow
class TestPostgresStoreBehindAPooler(SharedStoreSuite):
    @pytest.fixture
    def url(self, pooler: tuple[str, PoolingProxy], empty_postgres_url: str) -> str:
        return f"{pooler[0]}&listen={quote(empty_postgres_url, safe='')}"

    @pytest.fixture
    def backend(self, url: str) -> PostgresBackend:
        return PostgresBackend(url)

    @pytest.fixture
    def another(self, url: str) -> PostgresBackend:
        return PostgresBackend(url)

    async def let_expire(self, store: Backend, owner: str) -> None:
        assert isinstance(store, PostgresBackend)
        await store.database.write_sql(store.database.sql(EXPIRE), {"owner": owner})
