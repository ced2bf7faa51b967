"""A claim and a commit that meet, stopped at every place where one waits for the other."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from psycopg import AsyncConnection

from stepflow.records import Committed, KeyTaken, Lease, LeaseLost, RunChange, Verdict, Write
from stepflow.testing.suites.writes import FIRST, Ids, begin, enter, entries, record, result, write
from stepflow_postgres.backend import PostgresBackend

pytestmark = pytest.mark.anyio

FENCE = "DELETE FROM stepflow._engines WHERE owner = 'engine-1'"
CLAIM = "UPDATE stepflow._runs SET owner = 'engine-2', epoch = epoch + 1 WHERE owner = 'engine-1'"
HOLD = "SELECT 1 FROM stepflow._runs FOR NO KEY UPDATE"
HOLD_ALL = "LOCK TABLE stepflow._runs IN SHARE MODE"
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"


@pytest.fixture
def ids() -> Ids:
    return Ids()


@pytest.fixture
async def store(backend: PostgresBackend) -> AsyncIterator[PostgresBackend]:
    async with backend:
        await enter(backend, "engine-1", name="engine-1")
        yield backend


@pytest.fixture
async def other(empty_postgres_url: str, store: PostgresBackend) -> AsyncIterator[PostgresBackend]:
    """The same store in another engine."""
    async with PostgresBackend(empty_postgres_url) as backend:
        await enter(backend, "engine-2", name="other")
        yield backend


@asynccontextmanager
async def open_transaction(store: PostgresBackend, *statements: str) -> AsyncIterator[AsyncConnection]:
    """A transaction that has carried these out, and is committed at the end of the context."""
    connection = await AsyncConnection.connect(store.database.location.conninfo)
    async with connection:
        for statement in statements:
            await connection.execute(store.database.sql(statement))
        yield connection


async def until_blocked(store: PostgresBackend, count: int = 1) -> None:
    """Return when so many statements wait for another's lock."""
    with anyio.fail_after(60):
        while (await store.database.ask_sql(BLOCKED.encode()))[0][0] < count:
            await anyio.sleep(0.005)


async def committed_meanwhile(
    store: PostgresBackend, writes: list[Write], statements: list[str], by: PostgresBackend | None = None
) -> list[Verdict]:
    """What a commit answers that waits for a transaction which did these before it."""
    verdicts: list[Verdict] = []

    async def commit() -> None:
        verdicts.extend(await (by or store).journal.commit(writes))

    async with anyio.create_task_group() as tasks, open_transaction(store, *statements):
        tasks.start_soon(commit)
        await until_blocked(store)
        assert verdicts == []
    return verdicts


@pytest.mark.parametrize(
    "statements", [[FENCE, CLAIM], [CLAIM], [FENCE]], ids=["claim", "only the run", "only the engine"]
)
async def test_a_commit_that_waited_for_a_claim_is_refused(store: PostgresBackend, ids: Ids, statements: list[str]):
    run = await begin(store, record(ids.draw()))
    late = write(run, 2, ["late"], results=[result(0)], change=RunChange(succeeded=1))

    verdicts = await committed_meanwhile(store, [late], statements)

    stored = await store.runs.get(run)
    assert verdicts == [LeaseLost(current=2 if CLAIM in statements else 1)]
    assert await entries(store, run) == [(1, "begun")]
    assert list(await store.runs.results(run)) == []
    assert stored is not None
    assert stored.succeeded == 0


async def test_of_a_commit_that_waited_for_a_claim_only_the_claimed_run_is_refused(store: PostgresBackend, ids: Ids):
    lost, mine = [await begin(store, record(ids.draw())) for _ in range(2)]
    claim = f"UPDATE stepflow._runs SET owner = 'engine-2', epoch = 2 WHERE id = '{lost}'"

    verdicts = await committed_meanwhile(store, [write(run, 2, ["x"]) for run in (lost, mine)], [claim])

    assert verdicts == [LeaseLost(current=2), Committed()]
    assert [len(await entries(store, run)) for run in (lost, mine)] == [1, 2]


async def test_a_run_is_not_begun_by_an_engine_that_is_being_fenced(store: PostgresBackend, ids: Ids):
    new = record(ids.draw(), key="monday")

    verdicts = await committed_meanwhile(store, [write(new.id, 1, ["begun"], new=new)], [FENCE])

    assert verdicts == [LeaseLost(current=0)]
    assert await store.runs.get(new.id) is None
    assert await store.runs.find_key("monday") is None


async def test_a_claim_leaves_an_engine_alone_whose_commit_is_under_way_and_sees_it_the_next_time(
    store: PostgresBackend, other: PostgresBackend, ids: Ids
):
    run = await begin(store, record(ids.draw()))
    await store.database.write_sql(
        store.database.sql("UPDATE stepflow._engines SET expires_at = now() - interval '1 s' WHERE owner = 'engine-1'")
    )

    async with anyio.create_task_group() as tasks, open_transaction(store, HOLD):
        tasks.start_soon(store.journal.commit, [write(run, 2, ["under way"])])
        await until_blocked(store)
        meanwhile = list(await other.owners.claim("engine-2"))
    afterwards = await other.owners.claim("engine-2")

    assert meanwhile == []
    assert [lease for _, lease in afterwards] == [Lease("engine-2", 2)]
    assert await entries(other, run) == [(1, "begun"), (2, "under way")]
    assert list(await store.journal.commit([write(run, 3, ["late"])])) == [LeaseLost(current=2)]


async def test_an_engine_of_the_same_name_comes_in_behind_a_commit_that_is_under_way(
    store: PostgresBackend, other: PostgresBackend, ids: Ids
):
    run = await begin(store, record(ids.draw()))
    verdicts: list[Verdict] = []

    async def commit() -> None:
        verdicts.extend(await store.journal.commit([write(run, 2, ["under way"])]))

    async with anyio.create_task_group() as tasks, open_transaction(store, HOLD):
        tasks.start_soon(commit)
        await until_blocked(store)
        tasks.start_soon(functools.partial(enter, other, "engine-3", name="engine-1"))
        await until_blocked(store, 2)
    claimed = await other.owners.claim("engine-3")

    assert verdicts == [Committed()]
    assert [record.id for record, _ in claimed] == [run]
    assert await entries(other, run) == [(1, "begun"), (2, "under way")]


@pytest.mark.parametrize("repeated", [False, True], ids=["one commit", "each in a commit of its own"])
async def test_a_write_that_is_repeated_while_the_first_is_under_way_is_stored_once(
    store: PostgresBackend, ids: Ids, repeated: bool
):
    run = await begin(store, record(ids.draw()))
    writes = [write(run, 2, ["a"], results=[result(0)]), write(run, 3, ["b"], results=[result(1)])]
    verdicts: list[Verdict] = []

    async def commit(part: list[Write]) -> None:
        verdicts.extend(await store.journal.commit(part))

    async with anyio.create_task_group() as tasks, open_transaction(store, HOLD):
        tasks.start_soon(commit, writes)
        await until_blocked(store)
        for part in [[one] for one in writes] if repeated else [writes]:
            tasks.start_soon(commit, part)
        await until_blocked(store, 3 if repeated else 2)

    assert verdicts == [Committed()] * 4
    assert await entries(store, run) == [(1, "begun"), (2, "a"), (3, "b")]
    assert [place for place, _ in await store.runs.completed(run)] == [1, 2]


async def test_a_run_that_is_begun_twice_at_once_is_stored_once(
    store: PostgresBackend, other: PostgresBackend, ids: Ids
):
    new = record(ids.draw(), key="monday")
    opening = write(new.id, 1, ["begun"], new=new, results=[result(0)])
    verdicts: list[Verdict] = []

    async def commit(backend: PostgresBackend) -> None:
        verdicts.extend(await backend.journal.commit([opening]))

    async with anyio.create_task_group() as tasks, open_transaction(store, HOLD_ALL):
        for backend in (store, other):
            tasks.start_soon(commit, backend)
        await until_blocked(store, 2)

    assert verdicts == [Committed()] * 2
    assert await entries(store, new.id) == [(1, "begun")]


async def test_of_two_engines_that_begin_a_run_with_one_key_at_once_one_is_told_of_the_others(
    store: PostgresBackend, other: PostgresBackend, ids: Ids
):
    runs = [record(ids.draw(), key="monday") for _ in range(2)]
    writes = [
        write(runs[0].id, 1, ["a"], new=runs[0]),
        write(runs[1].id, 1, ["b"], new=runs[1], lease=Lease("engine-2", 1)),
    ]
    verdicts: dict[str, Verdict] = {}

    async def commit(backend: PostgresBackend, one: Write) -> None:
        verdicts[one.run_id] = (await backend.journal.commit([one]))[0]

    async with anyio.create_task_group() as tasks, open_transaction(store, HOLD_ALL):
        for backend, one in zip((store, other), writes, strict=True):
            tasks.start_soon(commit, backend, one)
        await until_blocked(store, 2)

    [won] = [run for run, verdict in verdicts.items() if verdict == Committed()]
    [lost] = [run for run in verdicts if run != won]
    assert verdicts[lost] == KeyTaken(won)
    assert await store.runs.get(lost) is None


async def test_a_key_whose_holder_is_being_replaced_names_the_one_that_came_first(
    store: PostgresBackend, other: PostgresBackend, ids: Ids
):
    first = await begin(store, record(ids.draw(), key="monday"))
    rivals = [record(ids.draw(), key="monday") for _ in range(2)]
    leases = [FIRST, Lease("engine-2", 1)]
    verdicts: dict[str, Verdict] = {}

    async def commit(backend: PostgresBackend, one: Write) -> None:
        verdicts[one.run_id] = (await backend.journal.commit([one]))[0]

    async with anyio.create_task_group() as tasks, open_transaction(store, HOLD_ALL):
        for backend, new, lease in zip((store, other), rivals, leases, strict=True):
            tasks.start_soon(commit, backend, write(new.id, 1, ["x"], new=new, lease=lease, supersedes=first))
            await until_blocked(store, len(verdicts) + rivals.index(new) + 1)

    assert verdicts == {rivals[0].id: Committed(), rivals[1].id: KeyTaken(rivals[0].id)}
