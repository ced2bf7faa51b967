"""An engine that dies before or after any of its writes leaves a run that ends as if nothing had happened."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from cutting import Cut, CutBackend
from reference_flows import FLOWS, Watched

from stepflow.clock import SystemClock
from stepflow.engine import Engine
from stepflow.errors import StoreError
from stepflow.execution.options import RecoverySettings
from stepflow.protocols import Backend, Deadline
from stepflow.stores.memory import MemoryBackend
from stepflow.stores.open import open_store
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.clock import TurnedClock, turned_backend

pytestmark = pytest.mark.anyio

MakeStore: TypeAlias = Callable[[], Backend]
"""Opens the same store again, as another process would."""

CHECKPOINT_EVERY = 12

_numbers = count()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return turned_backend("asyncio")


class HastyClock(SystemClock):
    """Real time, in which nobody waits long for an engine that is dead."""

    def timeout(self, seconds: float, *, shield: bool = False) -> AbstractContextManager[Deadline, bool]:
        return super().timeout(min(seconds, 0.1), shield=shield)


class World:
    """A store, and the engines that live and die on it one after the other."""

    def __init__(self, make_store: MakeStore, *, is_turned: bool) -> None:
        self._make_store = make_store
        self._is_turned = is_turned
        self._open: Backend
        self._key = f"world-{next(_numbers)}"
        self.watched = Watched(lambda: self._open)

    async def live(self, name: str, cut: Cut) -> list[tuple[int, Any]] | None:
        """One engine submits the flow under its key and reads its results; None: it died before."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_bury, cut)
            try:
                async with self._engine(cut) as engine:
                    flow, inputs = FLOWS[name]
                    run = await engine.submit(flow, inputs, key=self._key, max_concurrency=3)
                    await run.wait()
                    outputs = [(result.index, result.output) async for result in run.results()]
                    assert [record.key for record in await engine.list_runs()].count(self._key) == 1
                    return outputs
            except (StoreError, ExceptionGroup) as error:
                if not cut.died.is_set() or not _is_only_death(error):
                    raise
            finally:
                tasks.cancel_scope.cancel()
        return None

    @asynccontextmanager
    async def _engine(self, cut: Cut) -> AsyncIterator[Engine]:
        self._open = self._make_store()
        clock = TurnedClock() if self._is_turned else HastyClock()
        recovery = RecoverySettings(checkpoint_interval=CHECKPOINT_EVERY)
        store: Any = CutBackend(self._open, cut)
        async with Engine(
            self.watched.components, store=store, name="mortal", clock=clock, recovery=recovery
        ) as engine:
            yield engine


def _is_only_death(error: Exception) -> bool:
    return isinstance(error, StoreError) or (isinstance(error, ExceptionGroup) and error.split(StoreError)[1] is None)


async def _bury(cut: Cut) -> None:
    await cut.died.wait()
    for _ in range(3):  # whatever else goes on then comes to the store and stops there
        await anyio.lowlevel.checkpoint()
    cut.bury()


async def cut_everywhere(make_world: Callable[[], World], name: str, *, after: bool) -> int:
    """Cut one life at each of its writes; how many there were."""
    expected = await make_world().live(name, Cut())
    at = 0
    while True:
        world, cut = make_world(), Cut(at, after=after)
        outputs = await world.live(name, cut)
        if not cut.died.is_set():
            return at
        outputs = outputs or await world.live(name, Cut())
        assert outputs == expected, f"cut at write {at}"
        assert world.watched.twice == [], f"cut at write {at}"
        at += 1


async def cut_twice(make_world: Callable[[], World], name: str, *, after: bool, cuts: Iterable[int]) -> int:
    """Cut a life at these writes, and the recovery that follows at each of its own; how many pairs there were."""
    expected = await make_world().live(name, Cut())
    pairs = 0
    for at in cuts:
        again = 0
        while True:
            world, first, second = make_world(), Cut(at, after=after), Cut(again, after=after)
            await world.live(name, first)
            outputs = await world.live(name, second)
            if not first.died.is_set():
                return pairs
            if not second.died.is_set():
                break
            outputs = outputs or await world.live(name, Cut())
            assert outputs == expected, f"cut at write {at}, then at {again}"
            assert world.watched.twice == [], f"cut at write {at}, then at {again}"
            again += 1
            pairs += 1
    return pairs


def in_memory() -> World:
    store = MemoryBackend(keep_events=True)
    return World(lambda: store, is_turned=True)


@pytest.fixture
def in_sqlite(tmp_path: Path) -> Callable[[], World]:
    numbers = count()

    def make() -> World:
        path = tmp_path / f"{next(numbers)}.db"
        return World(lambda: SqliteBackend(path), is_turned=True)

    return make


@pytest.fixture
def in_postgres(postgres_url: str) -> Callable[[], World]:
    """All in one schema, since each world ends the run that it begins."""
    return lambda: World(lambda: open_store(postgres_url), is_turned=False)


flows = pytest.mark.parametrize("name", FLOWS)
sides = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@flows
@sides
async def test_a_run_in_memory_ends_the_same_wherever_its_engine_died(name: str, after: bool) -> None:
    assert await cut_everywhere(in_memory, name, after=after) >= 5


@sides
async def test_a_sequence_in_sqlite_ends_the_same_wherever_its_engine_died(
    in_sqlite: Callable[[], World], after: bool
) -> None:
    assert await cut_everywhere(in_sqlite, "sequence", after=after) >= 5


@pytest.mark.slow
@flows
@sides
async def test_a_run_in_sqlite_ends_the_same_wherever_its_engine_died(
    in_sqlite: Callable[[], World], name: str, after: bool
) -> None:
    assert await cut_everywhere(in_sqlite, name, after=after) >= 5


@pytest.mark.slow
@on_asyncio
@flows
@sides
async def test_a_run_in_postgres_ends_the_same_wherever_its_engine_died(
    in_postgres: Callable[[], World], name: str, after: bool
) -> None:
    assert await cut_everywhere(in_postgres, name, after=after) >= 5


@pytest.mark.slow
@flows
@sides
async def test_a_recovery_in_memory_may_be_cut_anywhere_too(name: str, after: bool) -> None:
    assert await cut_twice(in_memory, name, after=after, cuts=count()) >= 25


@pytest.mark.slow
@flows
@sides
async def test_a_recovery_in_sqlite_may_be_cut_anywhere_too(
    in_sqlite: Callable[[], World], name: str, after: bool
) -> None:
    assert await cut_twice(in_sqlite, name, after=after, cuts=count(1, 3)) >= 10


@pytest.mark.slow
@on_asyncio
@flows
@sides
async def test_a_recovery_in_postgres_may_be_cut_anywhere_too(
    in_postgres: Callable[[], World], name: str, after: bool
) -> None:
    assert await cut_twice(in_postgres, name, after=after, cuts=count(2, 5)) >= 6
