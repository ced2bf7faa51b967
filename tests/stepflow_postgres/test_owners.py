"""What happens to owners that only a shared server can have."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import psycopg
import pytest

from stepflow.errors import StoreUnavailableError
from stepflow.protocols import inbox_topic
from stepflow.records import Lease, LeaseLost, Message, MessageKind
from stepflow.testing.suites.writes import Ids, begin, child, end, enter, record, write
from stepflow_postgres import owners as module
from stepflow_postgres.backend import PostgresBackend
from stepflow_postgres.connection import Database
from stepflow_postgres.statements import statement

pytestmark = pytest.mark.anyio

HOLD = "SELECT FROM stepflow._engines WHERE owner = 'engine-1' FOR KEY SHARE"


@pytest.fixture
def ids() -> Ids:
    return Ids()


@pytest.fixture
async def store(backend: PostgresBackend) -> AsyncIterator[PostgresBackend]:
    async with backend:
        await enter(backend, "engine-1")
        yield backend


async def expire(store: PostgresBackend, owner: str, *, ago_s: float = 0.0) -> None:
    sql = "UPDATE stepflow._engines SET expires_at = clock_timestamp() - make_interval(secs => %(ago_s)s) "
    asked = {"owner": owner, "ago_s": ago_s}
    await store.database.write_sql(store.database.sql(f"{sql} WHERE owner = %(owner)s"), asked)


async def count(store: PostgresBackend, table: str) -> int:
    [(found,)] = await store.database.ask_sql(store.database.sql(f"SELECT count(*) FROM stepflow.{table}"))
    return int(found)


@asynccontextmanager
async def stuck_session(store: PostgresBackend) -> AsyncIterator[psycopg.AsyncConnection]:
    """A session that holds the engine's row, as that of a process which was stopped in the middle of a commit."""
    async with await psycopg.AsyncConnection.connect(store.database.location.conninfo) as connection:
        await connection.execute(store.database.sql(HOLD))
        yield connection


def answers_get_lost(
    monkeypatch: pytest.MonkeyPatch, store: PostgresBackend, is_meant: Callable[[str], bool]
) -> list[str]:
    """What is meant is carried out once, and then the connection seems lost. Gives the statements that it hit."""
    hit: list[str] = []
    write = Database.write

    async def lossy(self: Database, name: str, parameters: object = None) -> object:
        rows = await write(self, name, parameters)  # type: ignore[arg-type]
        if is_meant(name) and name not in hit:
            hit.append(name)
            raise StoreUnavailableError("the answer got lost")
        return rows

    monkeypatch.setattr(Database, "write", lossy)
    return hit


async def test_a_session_that_holds_a_dead_engine_is_ended_by_who_claims(store, ids, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    run = await begin(store, record(ids.draw()))
    await enter(store, "engine-2")
    claimed: list[tuple[object, Lease]] = []

    async with stuck_session(store) as stuck:
        await expire(store, "engine-1", ago_s=1)
        with anyio.fail_after(60):
            while not claimed:
                claimed += await store.owners.claim("engine-2")

        with pytest.raises(psycopg.OperationalError):
            await stuck.execute("SELECT 1")

    assert [lease for _, lease in claimed] == [Lease("engine-2", 2)]
    assert list(await store.journal.commit([write(run, 2, ["zombie"])])) == [LeaseLost(current=2)]


async def test_a_session_that_holds_a_dead_engine_keeps_nobody_from_other_runs(store, ids):
    await begin(store, record(ids.draw()))
    await enter(store, "engine-2")
    free = await begin(store, record(ids.draw()), lease=Lease("engine-2", 1))
    await enter(store, "engine-3")

    async with stuck_session(store):
        await expire(store, "engine-1")
        await expire(store, "engine-2")
        claimed = await store.owners.claim("engine-3")

    assert [run.id for run, _ in claimed] == [free]


async def test_a_session_that_holds_an_engine_is_ended_by_who_takes_its_name(store, monkeypatch):
    monkeypatch.setattr(module, "LONG_PATIENCE_S", 0.1)

    async with stuck_session(store) as stuck:
        with anyio.fail_after(60):
            await enter(store, "engine-2", name="engine-1")

        with pytest.raises(psycopg.OperationalError):
            await stuck.execute("SELECT 1")
    assert [engine.owner for engine in await store.owners.engines()] == ["engine-2"]


@pytest.mark.parametrize("name", ["fence", "claim_runs"])
async def test_runs_that_were_claimed_without_the_claimer_being_told_are_given_the_next_time(
    store, ids, monkeypatch, name
):
    root = await begin(store, record(ids.draw()))
    inner = await begin(store, child(ids.draw(), root))
    await store.owners.leave("engine-1")
    await enter(store, "engine-2")

    answers_get_lost(monkeypatch, store, lambda one: one == name)
    with pytest.raises(StoreUnavailableError):
        await store.owners.claim("engine-2")
    claims = [list(await store.owners.claim("engine-2")) for _ in range(2)]

    assert [[(run.id, lease) for run, lease in claimed] for claimed in claims] == [
        [(root, Lease("engine-2", 2)), (inner, Lease("engine-2", 2))],
        [],
    ]


async def test_who_was_told_of_a_run_is_not_told_again_though_another_answer_got_lost(store, ids, monkeypatch):
    await begin(store, record(ids.draw()))
    await store.owners.leave("engine-1")
    await enter(store, "engine-2")
    first = list(await store.owners.claim("engine-2"))

    answers_get_lost(monkeypatch, store, lambda one: one == "claim_runs")
    with pytest.raises(StoreUnavailableError):
        await store.owners.claim("engine-2")

    assert len(first) == 1
    assert list(await store.owners.claim("engine-2")) == []


async def test_an_engine_that_claims_is_woken_for_what_was_asked_of_its_new_runs(store, ids):
    run = await begin(store, record(ids.draw()))
    await store.inbox.send(Message(id="a", run_id=run, kind=MessageKind.CANCEL))
    await store.owners.leave("engine-1")
    await enter(store, "engine-2")

    with store.signals.listen(inbox_topic("engine-2")) as listener, anyio.fail_after(60):
        await store.owners.claim("engine-2")
        await listener.wait(600)

    assert [message.run_id for message in await store.inbox.receive("engine-2")] == [run]


async def test_who_enters_sweeps_what_engines_left_that_died_long_ago(store, ids):
    idle, busy, late = "engine-2", "engine-3", "engine-4"
    for owner in (idle, busy, late):
        await enter(store, owner)
    await begin(store, record(ids.draw()), lease=Lease(busy, 1))
    for owner in (idle, busy):
        await expire(store, owner, ago_s=module.SWEPT_AFTER_S + 1)
    await expire(store, late)

    await enter(store, "engine-5")

    sql = store.database.sql("SELECT owner FROM stepflow._engines ORDER BY owner")
    assert [owner for (owner,) in await store.database.ask_sql(sql)] == ["engine-1", busy, late, "engine-5"]


async def test_messages_to_runs_that_ended_long_ago_are_swept(store, ids):
    ended, unfinished = [await begin(store, record(ids.draw())) for _ in range(2)]
    for run in (ended, unfinished):
        await store.inbox.send(Message(id=run, run_id=run, kind=MessageKind.CANCEL))
    await end(store, ended)
    old = "UPDATE stepflow._inbox SET sent_at = sent_at - INTERVAL '2 hours'"
    await store.database.write_sql(store.database.sql(old))

    await enter(store, "engine-2")

    assert await count(store, "_inbox") == 1
    assert [message.run_id for message in await store.inbox.receive("engine-1")] == [unfinished]


async def test_a_claim_looks_at_no_runs_that_have_ended(store, ids):
    await begin(store, record(ids.draw()))
    columns = "id, root_id, flow_id, status, created_at, group_name, journal_format, owner, epoch"
    values = "'r' || n, 'r' || n, flow_id, 'completed', 0, group_name, journal_format, owner, 1"
    many = f"INSERT INTO stepflow._runs ({columns}) SELECT {values} FROM stepflow._runs, generate_series(1, 20000) AS n"
    for sql in (many, "VACUUM (ANALYZE) stepflow._runs"):
        await store.database.write_sql(store.database.sql(sql))

    claim = statement("claim_runs", store.database.schema).decode()
    asked = {"owner": "'engine-2'", "root_id": "NULL", "limit": "100", "journal_format": "1"}
    plan = await store.database.write_sql(f"EXPLAIN {claim % asked}".encode())

    assert [line for (line,) in plan if "Seq Scan on _runs" in line] == []
    assert [line for (line,) in plan if "_runs_unfinished" in line] != []
