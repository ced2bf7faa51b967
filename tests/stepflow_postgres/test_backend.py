"""Opening a store, and what its parts do besides the contract."""

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import psycopg
import pytest
import trio
from postgres_server import execute

from stepflow.clock import SystemClock
from stepflow.engine import Engine
from stepflow.errors import StoreError, StoreUnavailableError
from stepflow.records import BlobType, ParentLink, RunChange, RunStatus
from stepflow.stores.open import open_reader, open_store
from stepflow.testing.suites.writes import Ids, begin, enter, record, result, write
from stepflow_postgres import retention
from stepflow_postgres.arrays import blobs, bools, floats, ints, texts
from stepflow_postgres.backend import PostgresBackend
from stepflow_postgres.escape import escaped, plain
from stepflow_postgres.faults import store_error
from stepflow_postgres.statements import statement

pytestmark = pytest.mark.anyio


class SetClock(SystemClock):
    """Its time of day is whatever it was set to."""

    time = 1_767_225_600.0

    def now(self) -> float:
        return self.time


ENDED = RunChange(status=RunStatus.COMPLETED, ended_at=5.0)


@pytest.fixture
async def store(backend: PostgresBackend) -> AsyncIterator[PostgresBackend]:
    async with backend:
        await enter(backend, "engine-1")
        yield backend


@pytest.fixture
def ids() -> Ids:
    return Ids()


def test_a_url_opens_the_store():
    for url in ("postgresql://db/work", "postgres://db/work"):
        assert isinstance(open_store(url), PostgresBackend)
        assert isinstance(open_reader(url), PostgresBackend)
        assert isinstance(Engine(store=url).backend, PostgresBackend)


def test_on_trio_it_says_what_it_needs(empty_postgres_url: str):
    async def use() -> None:
        async with PostgresBackend(empty_postgres_url):
            pass

    with pytest.raises(StoreError, match="PostgreSQL needs asyncio"):
        trio.run(use)


async def test_a_store_that_is_not_open_says_so(backend: PostgresBackend):
    for _ in range(2):
        with pytest.raises(StoreError, match="not open; use it inside `async with`"):
            await backend.runs.list()
        async with backend:
            with pytest.raises(StoreError, match="open already"):
                await backend.__aenter__()
            assert await backend.runs.list() == []


async def test_all_connections_are_given_back(postgres_server_url: str, empty_postgres_url: str, ids: Ids):
    name = f"count_{empty_postgres_url.rpartition('_')[2]}"
    mine = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"
    async with PostgresBackend(f"{empty_postgres_url}&application_name={name}") as store:
        await enter(store, "engine-1")
        await begin(store, record(ids.draw()))
        open = execute(postgres_server_url, mine)

    with anyio.fail_after(60):
        while execute(postgres_server_url, mine) != [(0,)]:
            await anyio.sleep(0.01)
    assert open[0][0] > 0


@pytest.mark.parametrize("pool_size", [1, 2])
async def test_a_store_with_few_connections_does_all_at_once(empty_postgres_url: str, ids: Ids, pool_size: int):
    async with PostgresBackend(f"{empty_postgres_url}&pool_size={pool_size}") as store:
        await enter(store, "engine-1")
        runs = [record(ids.draw()) for _ in range(20)]

        async with anyio.create_task_group() as tasks:
            for run in runs:
                tasks.start_soon(store.journal.commit, [write(run.id, 1, ["begun"], new=run)])
                tasks.start_soon(store.blobs.put, run.id.encode())

        assert len(await store.runs.list()) == 20


async def test_a_commit_that_is_cancelled_may_be_repeated(store: PostgresBackend, ids: Ids):
    run = await begin(store, record(ids.draw()))
    again = write(run, 2, ["a"])
    connection = await psycopg.AsyncConnection.connect(store.database.location.conninfo)
    async with connection:
        await connection.execute(store.database.sql("SELECT 1 FROM stepflow._runs FOR UPDATE"))
        with anyio.move_on_after(0.2) as scope:
            await store.journal.commit([again])

    await store.journal.commit([again])

    assert scope.cancelled_caught
    assert [row.first for row in await store.journal.read(run)] == [1, 2]


async def test_a_damaged_blob_is_refused(store: PostgresBackend):
    id = await store.blobs.put(b"whole", BlobType.BINARY)
    await store.database.write_sql(store.database.sql(r"UPDATE stepflow._blobs SET content = '\x00'"))

    with pytest.raises(StoreError, match=f"the blob {id} is damaged; restore the database"):
        await store.blobs.get(id)


async def test_the_use_of_a_blob_is_noted_hourly(empty_postgres_url: str):
    clock = SetClock()
    async with PostgresBackend(empty_postgres_url, clock=clock) as store:
        began = clock.time
        id = await store.blobs.put(b"used")
        touched = []
        for after_s, is_put in ((1_800, False), (4_800, False), (8_300, True), (8_500, True)):
            clock.time = began + after_s
            await (store.blobs.put(b"used") if is_put else store.blobs.get(id))
            touched.append((await store.database.ask("touched_blob", {"id": id}))[0][0] - began)

    assert touched == [0, 4_800, 4_800, 8_500]


async def test_a_key_goes_back_to_the_newest_run_that_is_left(store: PostgresBackend, ids: Ids):
    first = await begin(store, record(ids.draw(), key="monday"))
    second = await begin(store, record(ids.draw(), key="monday"), supersedes=first)
    third = await begin(store, record(ids.draw(), key="monday"), supersedes=second)
    await store.journal.commit([write(run, 2, ["end"], change=ENDED) for run in (first, second, third)])

    holders = []
    for run in (second, third, first):
        assert await store.retention.delete(run)
        found = await store.runs.find_key("monday")
        holders.append(found and found.id)

    assert holders == [third, first, None]


async def test_a_tree_of_which_a_sub_run_goes_on_is_kept(store: PostgresBackend, ids: Ids):
    root = await begin(store, record(ids.draw()))
    link = ParentLink(run_id=root, item=0, step=0, key="k")
    child = await begin(store, record(ids.draw(), root_id=root, parent=link))
    await store.journal.commit([write(root, 2, ["end"], change=ENDED)])

    kept = await store.retention.delete(root), await store.retention.prune(keep=0)
    await store.journal.commit([write(child, 2, ["end"], change=ENDED)])
    gone = await store.retention.prune(keep=0)

    assert kept == (False, 0)
    assert gone == 1
    for table in ("_runs", "_entries", "_results", "_keys"):
        assert await store.database.ask_sql(store.database.sql(f"SELECT 1 FROM stepflow.{table}")) == []


async def test_arrays_arrive_as_they_were(store: PostgresBackend):
    given = {
        "a": ints([1, None, -(2**63), 2**63 - 1]),
        "b": ints([]),
        "c": texts(["", None, "ünï", 'a"b,{}']),
        "d": blobs([b"", b"\0\xff", None]),
        "e": bools([True, False]),
        "f": floats([0.1, None, -1e300]),
        "g": ints([7, 8]),
    }

    [row] = await store.database.ask_sql(b"SELECT %(a)s, %(b)s, %(c)s, %(d)s, %(e)s, %(f)s, %(g)s", given)

    assert row == (
        [1, None, -(2**63), 2**63 - 1],
        [],
        ["", None, "ünï", 'a"b,{}'],
        [b"", b"\0\xff", None],
        [True, False],
        [0.1, None, -1e300],
        [7, 8],
    )


@pytest.mark.parametrize("text", ["", "a", "\0", "\1", "\1\2", "\0\1", "\1\0\2\1\1", "a\1\1b\0"])
def test_text_is_escaped_and_read_back(text: str):
    assert plain(escaped(text)) == text
    assert "\0" not in escaped(text)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (psycopg.errors.AdminShutdown("terminating"), StoreUnavailableError, "terminating"),
        (psycopg.errors.SerializationFailure("again"), StoreUnavailableError, "again"),
        (psycopg.errors.DeadlockDetected("deadlock"), StoreUnavailableError, "deadlock"),
        (psycopg.errors.LockNotAvailable("lock"), StoreUnavailableError, "lock"),
        (psycopg.errors.QueryCanceled("timeout"), StoreUnavailableError, "timeout"),
        (psycopg.errors.TooManyConnections("too many"), StoreUnavailableError, "too many"),
        (psycopg.OperationalError("lost"), StoreUnavailableError, "see that it runs"),
        (psycopg.InterfaceError("closed"), StoreUnavailableError, "see that it runs"),
        (OSError("no route"), StoreUnavailableError, "see that it runs"),
        (psycopg.errors.InvalidPassword("refused"), StoreError, "name and password in the URL"),
        (psycopg.errors.DiskFull("full"), StoreError, "free some space"),
        (psycopg.errors.UndefinedTable("no table"), StoreError, "run `stepflow migrate`"),
        (psycopg.errors.InsufficientPrivilege("no right"), StoreError, "grant it the rights"),
        (psycopg.errors.DuplicatePreparedStatement("exists"), StoreError, "add \\?prepare=0 to the URL"),
        (psycopg.errors.DataCorrupted("bad page"), StoreError, "restore the database"),
        (psycopg.errors.CheckViolation("broken rule"), StoreError, "broken rule"),
    ],
)
def test_an_error_of_the_server_says_what_to_do(error: Exception, kind: type[StoreError], words: str):
    found = store_error(error, "postgresql://db/work")

    assert type(found) is kind
    with pytest.raises(StoreError, match=f"^postgresql://db/work: .*{words}"):
        raise found


async def test_no_message_or_log_line_shows_the_password(tmp_path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)

    with pytest.raises(StoreUnavailableError) as refused:
        async with PostgresBackend(f"postgresql://ann:hidden@/work?host={tmp_path}"):
            pass

    assert "hidden" not in str(refused.value) + str(refused.value.__cause__) + caplog.text


async def test_deleting_a_run_reads_no_whole_table(store: PostgresBackend, ids: Ids):
    runs = [record(ids.draw()) for _ in range(3_000)]
    opening = [write(run.id, 1, ["x"], new=run, results=[result(0)], change=ENDED) for run in runs]
    await store.journal.commit(opening)
    fresh = "VACUUM (ANALYZE) stepflow._runs, stepflow._entries, stepflow._results"
    await store.database.write_sql(store.database.sql(fresh))
    [(no,)] = await store.database.ask("find_ended", {"root_id": runs[7].id})

    for name, asked in (
        ("find_old", {"ended_before": 1.0, "keep": 5, "limit": 10}),
        ("delete_trees", {"nos": ints([no])}),
        ("sweep_entries", {"nos": ints([no]), "no": 0, "after": -1, "limit": 10}),
        ("sweep_results", {"nos": ints([no]), "no": 0, "after": -1, "limit": 10}),
        ("forget_deleted", {"nos": ints([no])}),
    ):
        plan = await store.database.ask_sql(b"EXPLAIN " + statement(name, store.database.schema), asked)

        told = "\n".join(line for (line,) in plan)
        assert "Index" in told
        assert not [table for table in ("_runs", "_entries", "_results") if f"Seq Scan on {table}" in told]


async def test_what_belongs_to_deleted_runs_goes_a_few_rows_at_a_time_and_what_was_cut_off_with_the_next(
    store: PostgresBackend, ids: Ids, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retention, "ROWS", 10)
    monkeypatch.setattr(retention, "RUNS_AT_ONCE", 3)
    runs = [await begin(store, record(ids.draw())) for _ in range(5)]
    for run, rows in zip(runs, (0, 35, 3, 10, 12), strict=True):
        more = [write(run, 2 + n, ["x"], results=[result(n)]) for n in range(rows)]
        await store.journal.commit([*more, write(run, 2 + rows, ["end"], change=ENDED)])
    other = await begin(store, record(ids.draw()))
    await store.journal.commit([write(other, 2, ["x"], results=[result(0)])])
    send, deleted, left = store.database.write, [], 4

    async def write_some(name: str, asked: Mapping[str, object]) -> list[tuple[Any, ...]]:
        nonlocal left
        left -= name.startswith("sweep_")
        if left < 0:
            raise StoreUnavailableError("cut off")
        rows = await send(name, asked)
        if name.startswith("sweep_") and rows:
            deleted.append(rows[0][0])
        return rows

    monkeypatch.setattr(store.database, "write", write_some)
    with pytest.raises(StoreUnavailableError):
        await store.retention.prune(keep=0)
    seen, left = await store.runs.list(), 1_000
    await send("forget_deleted", {"nos": ints(range(100))})  # as another engine that found nothing to do
    gone = await store.retention.prune(keep=0)

    assert [run.id for run in seen] == [other]
    assert gone == 0
    assert max(deleted) == 10
    assert sum(deleted) == 2 * 60 + 2 * 5  # each run has an entry at its beginning and one at its end
    assert [await rows_of(store, name) for name in ("_deleted", "_entries", "_results")] == [0, 2, 1]


async def rows_of(store: PostgresBackend, table: str) -> int:
    [(count,)] = await store.database.ask_sql(store.database.sql(f"SELECT count(*) FROM stepflow.{table}"))
    return int(count)
