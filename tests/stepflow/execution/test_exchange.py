"""Tasks of one engine are done by the workers of any engine that shares its store."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import msgspec
import pytest
from offering_plugin import OfferingPlugin

from stepflow.engine import Engine
from stepflow.errors import StoreUnavailableError
from stepflow.records import Json, Offer, RunStatus
from stepflow.stores.memory import MemoryBackend
from stepflow.stores.memory.dispatch import MemoryDispatch
from stepflow.testing.clock import TurnedClock
from stepflow.testing.faults import FaultyBackend
from stepflow.testing.simulation import Faults

pytestmark = pytest.mark.anyio

NONE = Faults(delay_s=0, lost_rate=0, torn_rate=0, stall_rate=0)
FLOW = {"steps": [{"id": "s", "component": "/gpu/work", "input": {"$input": "$"}}], "output": {"$step": "s"}}


class Pool(OfferingPlugin):
    """A plugin whose tasks wait for workers of a queue: so many of them belong to its engine."""

    def __init__(self, name: str, workers: int, done: list[tuple[str, Json]], work_s: float = 1.0) -> None:
        self.name = name
        super().__init__(workers)
        self.done = done
        self.work_s = work_s
        self.begun = anyio.Event()

    async def work(self, body: bytes) -> bytes:
        self.begun.set()
        await anyio.sleep(self.work_s)
        self.done.append((self.name, msgspec.json.decode(body)))
        return body


@asynccontextmanager
async def engine_with(pool: Pool, store: Any) -> AsyncIterator[Engine]:
    routes = {"/gpu": [{"plugin": "pool"}]}
    async with Engine(plugins={"pool": pool}, routes=routes, store=store, clock=TurnedClock()) as engine:
        pool.engine = engine
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.exchange.serve, "gpu", pool.credit, pool.work)
            yield engine
            tasks.cancel_scope.cancel()


@pytest.fixture
async def store() -> MemoryBackend:
    return MemoryBackend(shared=True, clock=TurnedClock())


async def results(engine: Engine, count: int) -> list[Json]:
    run = await engine.submit(FLOW, list(range(count)))
    return [result.output async for result in run.results()]


async def test_workers_of_another_engine_do_what_finds_nobody_here(store: MemoryBackend) -> None:
    done: list[tuple[str, Json]] = []
    async with engine_with(Pool("a", 0, done), store) as one, engine_with(Pool("b", 2, done), store):
        outputs = await results(one, 10)
        await anyio.sleep(1)  # what is recorded is withdrawn
        left = await store.dispatch.answers(one.owner)

    assert outputs == list(range(10))
    assert sorted(done) == [("b", number) for number in range(10)]
    assert list(left) == []


async def test_both_engines_workers_share_a_flood(store: MemoryBackend) -> None:
    done: list[tuple[str, Json]] = []
    clock = TurnedClock()
    async with engine_with(Pool("a", 1, done), store) as one, engine_with(Pool("b", 3, done), store):
        outputs = await results(one, 40)

    by_engine = {name: sum(1 for who, _ in done if who == name) for name in "ab"}
    assert outputs == list(range(40))
    assert sorted(value for _, value in done) == list(range(40))
    assert min(by_engine.values()) >= 8
    assert clock.elapsed_s < 20


async def test_what_finds_a_worker_at_home_is_offered_to_nobody(store: MemoryBackend) -> None:
    done: list[tuple[str, Json]] = []
    async with engine_with(Pool("a", 20, done), store) as one, engine_with(Pool("b", 20, done), store):
        await results(one, 20)

    assert {name for name, _ in done} == {"a"}


async def test_an_engine_that_is_alone_offers_nothing_until_another_comes(
    store: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, Json]] = []
    offered: list[str] = []
    offer = MemoryDispatch.offer

    async def counted(self: MemoryDispatch, owner: str, offers: Sequence[Offer]) -> None:
        offered.extend(one.task_id for one in offers)
        await offer(self, owner, offers)

    monkeypatch.setattr(MemoryDispatch, "offer", counted)
    async with engine_with(Pool("a", 1, done), store) as one:
        alone = await results(one, 10), list(offered)
        run = await one.submit(FLOW, list(range(20)))
        await anyio.sleep(3)
        async with engine_with(Pool("b", 3, done), store):
            await run.wait()

    assert alone == (list(range(10)), [])
    assert offered
    assert {name for name, _ in done} == {"a", "b"}


async def test_what_a_dying_engine_had_taken_is_done_by_others(store: MemoryBackend) -> None:
    done: list[tuple[str, Json]] = []
    doomed = Pool("b", 2, done, work_s=1e6)
    seat = FaultyBackend(store, NONE, Random(0), TurnedClock())
    async with engine_with(Pool("a", 0, done), store) as one:
        run = await one.submit(FLOW, [1, 2])
        async with engine_with(doomed, seat):
            await doomed.begun.wait()
            seat.die()
        async with engine_with(Pool("c", 1, done), store):
            record = await run.wait()

    assert record.status is RunStatus.COMPLETED
    assert sorted(done) == [("c", 1), ("c", 2)]


async def test_an_answer_that_comes_while_a_run_is_taken_over_is_not_lost(store: MemoryBackend) -> None:
    done: list[tuple[str, Json]] = []
    worker = Pool("b", 1, done, work_s=3.0)
    seat = FaultyBackend(store, NONE, Random(0), TurnedClock())
    async with engine_with(worker, store) as survivor:
        async with engine_with(Pool("a", 0, done), seat) as one:
            run = await one.submit(FLOW, [7])
            await worker.begun.wait()
            seat.die()
        record = await (await survivor.get_run(run.id)).wait()
        outputs = [result.output async for result in (await survivor.get_run(run.id)).results()]

    assert record.status is RunStatus.COMPLETED
    assert outputs == [7]
    assert done == [("b", 7)]


async def test_what_a_claim_took_whose_answer_is_lost_is_done(
    store: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, Json]] = []
    claim = MemoryDispatch.claim
    lost: list[str] = []

    async def lose_first(self: MemoryDispatch, owner: str, queue: str, *, limit: int = 1) -> Sequence[Offer]:
        taken = await claim(self, owner, queue, limit=limit)
        if lost or not taken:
            return taken
        lost.extend(one.task_id for one in taken)
        raise StoreUnavailableError("the connection was lost before the answer came")

    monkeypatch.setattr(MemoryDispatch, "claim", lose_first)
    async with engine_with(Pool("a", 0, done), store) as one, engine_with(Pool("b", 1, done), store):
        with anyio.fail_after(60):
            outputs = await results(one, 1)

    assert len(lost) == 1
    assert outputs == [0]
    assert done == [("b", 0)]
