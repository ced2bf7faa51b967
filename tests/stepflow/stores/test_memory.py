"""The memory store is a store like any other."""

import anyio
import pytest

from stepflow.clock import SystemClock
from stepflow.engine import Engine
from stepflow.protocols import Backend, Listener
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.suites.store import SharedStoreSuite, StoreSuite
from stepflow.testing.suites.writes import TTL_S


class AheadClock(SystemClock):
    """A clock that goes ahead when it is told to."""

    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


class TestMemoryBackend(StoreSuite):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()


class TestSharedMemoryBackend(SharedStoreSuite):
    @pytest.fixture
    def clock(self) -> AheadClock:
        return AheadClock()

    @pytest.fixture
    def backend(self, clock: AheadClock) -> MemoryBackend:
        return MemoryBackend(shared=True, clock=clock)

    @pytest.fixture(autouse=True)
    def _clock(self, clock: AheadClock) -> None:
        self.turned = clock

    async def let_expire(self, store: Backend, owner: str) -> None:
        engines = await store.owners.engines()
        self.turned.ahead_s += TTL_S
        for engine in engines:
            if engine.owner != owner:
                await store.owners.beat(engine.owner)


@pytest.mark.anyio
async def test_runs_that_ended_long_ago_are_dropped_with_their_sub_runs() -> None:
    store = MemoryBackend(keep_runs=2, keep_s=0)
    inner = {"steps": [{"id": "i", "component": "/builtin/noop"}], "output": {"$step": "i"}}
    step = {"id": "m", "component": "/builtin/map", "input": {"workflow": {"$literal": inner}, "items": [1]}}

    async with Engine(store=store) as engine:
        runs = []
        for number in range(4):
            run = await engine.submit({"steps": [step], "output": {"$step": "m"}}, [None], key=str(number))
            await run.wait()
            runs.append(run)
        kept = await store.list()
        keys = [await store.find_key(str(number)) is not None for number in range(4)]

    assert {record.root_id for record in kept} == {run.id for run in runs[2:]}
    assert len(kept) == 4
    assert keys == [False, False, True, True]


@pytest.mark.anyio
async def test_a_run_that_just_ended_is_kept_whatever_their_number() -> None:
    store = MemoryBackend(keep_runs=1)

    async with Engine(store=store) as engine:
        runs = [await engine.submit({"output": number}, [None]) for number in range(5)]
        records = [await run.wait() for run in runs]

    assert [record.succeeded for record in records] == [1] * 5


@pytest.mark.anyio
async def test_a_listener_is_woken_once_by_what_was_sent() -> None:
    store = MemoryBackend()
    woken = []

    async def wait(listener: Listener) -> None:
        await listener.wait(1e6)
        woken.append(listener)

    with store.signals.listen("topic") as listener:
        store.signals.send("topic")
        store.signals.send("topic")
        async with anyio.create_task_group() as waiters:
            for _ in range(2):
                waiters.start_soon(wait, listener)
                await anyio.wait_all_tasks_blocked()
            waiters.cancel_scope.cancel()

    assert woken == [listener]


@pytest.mark.anyio
async def test_nothing_is_kept_of_a_listener_that_is_gone() -> None:
    store = MemoryBackend()

    with store.signals.listen("topic"), store.signals.listen("topic"):
        inside = dict(store.signals._listeners)

    assert list(inside) == ["topic"]
    assert store.signals._listeners == {}


@pytest.mark.anyio
async def test_a_shared_store_stays_open_until_the_last_engine_closes_it() -> None:
    store = MemoryBackend(shared=True)

    async with store as first:
        async with store as second:
            blob = await first.blobs.put(b"x")
        found = await first.blobs.get(blob)

    assert first is second
    assert found is not None


def test_a_store_in_memory_is_shared_only_where_that_is_asked_for() -> None:
    assert [MemoryBackend(shared=shared).is_shared for shared in (False, True)] == [False, True]
    assert not MemoryBackend().is_shared
