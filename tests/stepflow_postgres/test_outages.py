"""A server that crashes under an engine that writes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import pytest
from anyio.to_thread import run_sync
from postgres_server import PostgresServer

from stepflow.errors import StoreUnavailableError
from stepflow.protocols import Backend
from stepflow.records import Committed, Json, Message, MessageKind, RunId, Verdict
from stepflow.testing.suites.writes import Ids, begin, enter, entries, record, result, take_over, write
from stepflow_postgres import connection
from stepflow_postgres.backend import PostgresBackend

pytestmark = pytest.mark.anyio

T = TypeVar("T")
PATIENCE_S = 120.0


async def answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until the store answers."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                return await ask()
            except StoreUnavailableError:
                await anyio.sleep(0.02)


async def whole_journal(store: Backend, run: RunId) -> list[tuple[int, Json]]:
    """Every entry, however many pages that takes."""
    found = await entries(store, run)
    while page := await entries(store, run, after=found[-1][0]):
        found += page
    return found


class Writer:
    """Writes to some runs, one entry and one result each in every commit, until it is told to end."""

    def __init__(self, store: Backend, runs: Sequence[RunId]) -> None:
        self.position = 1
        self.verdicts: set[Verdict] = set()
        self._store = store
        self._runs = runs
        self._is_ending = False

    async def run(self) -> None:
        while not self._is_ending:
            position = self.position + 1
            writes = [write(run, position, [position], results=[result(position)]) for run in self._runs]
            self.verdicts |= set(await answered(lambda writes=writes: self._store.journal.commit(writes)))
            self.position = position

    async def until_beyond(self, position: int) -> None:
        with anyio.fail_after(PATIENCE_S):
            while self.position < position:
                await anyio.sleep(0.001)

    def end(self) -> None:
        self._is_ending = True


@pytest.mark.parametrize("crashes", [2, pytest.param(15, marks=pytest.mark.slow)])
async def test_nothing_is_lost_or_doubled_when_the_server_crashes_while_an_engine_writes(
    own_postgres: PostgresServer, crashes: int
):
    ids = Ids()
    async with PostgresBackend(own_postgres.url) as store, anyio.create_task_group() as tasks:
        await enter(store, "engine-1")
        runs = [await begin(store, record(ids.draw())) for _ in range(5)]
        writer = Writer(store, runs)
        tasks.start_soon(writer.run)

        for _ in range(crashes):
            await writer.until_beyond(writer.position + 20)
            await run_sync(own_postgres.restart, "immediate")
        await writer.until_beyond(writer.position + 20)
        writer.end()

    async with PostgresBackend(own_postgres.url) as store:
        journals = [await whole_journal(store, run) for run in runs]
        places = [await store.runs.completed(run, limit=10_000) for run in runs]
    expected = range(2, writer.position + 1)
    assert writer.verdicts == {Committed()}
    assert journals == [[(1, "begun"), *((position, position) for position in expected)]] * 5
    assert places == [[(position - 1, result(position)) for position in expected]] * 5


async def test_a_store_that_was_open_over_a_crash_does_all_it_did_before(own_postgres: PostgresServer):
    ids = Ids()
    async with PostgresBackend(own_postgres.url) as store, PostgresBackend(own_postgres.url) as other:
        await enter(store, "engine-1")
        run = await begin(store, record(ids.draw()))
        await other.runs.get(run)

        await run_sync(own_postgres.restart, "immediate")
        message = Message(id="a", run_id=run, kind=MessageKind.CANCEL)

        assert await answered(lambda: other.inbox.send(message))
        assert [one.id for one in await answered(lambda: store.inbox.receive("engine-1"))] == ["a"]
        assert await answered(lambda: store.owners.beat("engine-1"))
        assert list(await answered(lambda: take_over(other, run))) == [run]


async def test_while_the_server_is_away_every_question_is_refused_as_unavailable(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "WAIT_S", 0.2)
    ids = Ids()
    async with PostgresBackend(own_postgres.url) as store:
        await enter(store, "engine-1")
        run = await begin(store, record(ids.draw()))
        await run_sync(own_postgres.stop, "immediate")

        asked: list[Callable[[], Awaitable[object]]] = [
            lambda: store.owners.beat("engine-1"),
            lambda: store.owners.claim("engine-1"),
            lambda: store.owners.ownership(run),
            lambda: store.inbox.receive("engine-1"),
            lambda: store.dispatch.claim("engine-1", "gpu"),
            lambda: store.journal.commit([write(run, 2, ["x"])]),
        ]
        for ask in asked:
            with pytest.raises(StoreUnavailableError):
                await ask()


@pytest.mark.slow
async def test_who_waits_for_a_connection_has_one_as_soon_as_the_server_is_back(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "WAIT_S", 5 * PATIENCE_S)
    listed: list[object] = []
    async with PostgresBackend(own_postgres.url) as store, anyio.create_task_group() as tasks:
        pool = store.database._opened()

        async def ask() -> None:
            listed.append(await store.runs.list())

        await run_sync(own_postgres.stop, "immediate")
        with anyio.fail_after(PATIENCE_S):
            tasks.start_soon(answered, ask)
            while pool.get_stats().get("connections_errors", 0) < 4 or not pool.get_stats().get("requests_waiting"):
                await anyio.sleep(0.01)
            await run_sync(own_postgres.start)
            while not listed:
                await anyio.sleep(0.01)

    assert listed == [[]]
