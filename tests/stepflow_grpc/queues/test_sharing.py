"""Tasks that any engine's workers may do, of engines that share a store."""

from typing import Any

import anyio
import msgspec
import pytest
from queue_bench import Bench, items, ours, queued_of
from queue_site import DOUBLE, FLOW, Site, results, site
from sample_task import RUN

from stepflow.protocols import NOT_DONE, Credit, Work
from stepflow.records import ComponentInfo, ErrorCode, Failed, Offer, RunStatus, Succeeded
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock
from stepflow_grpc.queues.answer import pack_answer
from stepflow_grpc.queues.catalogue import Catalogue
from stepflow_grpc.queues.credit import HELD_OFF_S, SpareCredit
from stepflow_grpc.queues.settings import Settings
from stepflow_grpc.queues.sharing import Sharing

pytestmark = pytest.mark.anyio


class Nobody:
    """An exchange on which no other engine takes anything, and how many tasks were on it."""

    def __init__(self) -> None:
        self.on_offer: list[int] = []
        self.most = 0

    async def perform(self, offer: Offer, credit: Credit, work: Work) -> bytes:
        self.on_offer.append(msgspec.json.decode(offer.body)["item"])
        self.most = max(self.most, len(self.on_offer))
        try:
            await credit.acquire()
            return await work(offer.body)
        finally:
            self.on_offer.remove(msgspec.json.decode(offer.body)["item"])


def sharing(bench: Bench, exchange: Any) -> Sharing:
    return Sharing(bench.queues, exchange, bench.clock, Catalogue())


async def share(bench: Bench, among: Sharing, item: int) -> str:
    """Offer it beside the test."""
    queued = queued_of(item)

    async def offer() -> None:
        bench.outcomes[RUN, item] = await among.offer(queued, bench.waiting)

    bench.tasks.start_soon(offer)
    await bench.turn(0)
    return queued.id


async def test_of_a_queue_that_nobody_seems_to_serve_one_task_at_a_time_is_on_offer(bench: Bench) -> None:
    exchange = Nobody()
    among = sharing(bench, exchange)
    ids = [await share(bench, among, item) for item in range(3)]

    first = list(exchange.on_offer)
    bench.queues.cancel(ids[0])
    await bench.turn(20)
    second, most = list(exchange.on_offer), exchange.most
    for id in ids:
        bench.queues.cancel(id)
    await bench.turn(0)

    assert (first, len(second), most) == ([0], 1, 1)
    assert second != [0]
    assert exchange.on_offer == []
    assert all(isinstance(outcome, Failed) for outcome in bench.outcomes.values())
    assert len(bench.outcomes) == 3


async def test_once_another_engine_is_seen_to_serve_the_queue_all_its_tasks_are_on_offer(bench: Bench) -> None:
    exchange = Nobody()
    among = sharing(bench, exchange)
    for item in range(3):
        await share(bench, among, item)
    (queue,) = bench.queues.all()

    bench.queues.absence.note_served_elsewhere(queue)
    await bench.turn(0)

    assert sorted(exchange.on_offer) == [0, 1, 2]


async def test_what_a_worker_of_another_engine_answered_is_the_outcome(bench: Bench) -> None:
    class Elsewhere(Nobody):
        async def perform(self, offer: Offer, credit: Credit, work: Work) -> bytes:
            return msgspec.json.encode(Succeeded("there"))

    await share(bench, sharing(bench, Elsewhere()), 1)
    (queue,) = bench.queues.all()

    assert await bench.settle(1) == Succeeded("there")
    assert bench.queues.absence.is_served_somewhere(queue)


async def test_the_time_that_another_engine_did_not_work_at_it_is_time_in_the_queue(bench: Bench) -> None:
    class Elsewhere(Nobody):
        async def perform(self, offer: Offer, credit: Credit, work: Work) -> bytes:
            await bench.clock.sleep(5)
            return pack_answer(Succeeded("there"), 2)

    noted: list[float] = []
    queued = queued_of(1, note_queued=lambda task, seconds: noted.append(seconds))
    among = sharing(bench, Elsewhere())

    async def offer() -> None:
        assert await among.offer(queued, bench.waiting) == Succeeded("there")

    bench.tasks.start_soon(offer)
    await bench.turn(6)

    assert noted == [3]


async def test_a_worker_that_comes_here_gets_what_waited(bench: Bench) -> None:
    among = sharing(bench, Nobody())
    ids = [await share(bench, among, item) for item in range(2)]

    stream = ours(bench, "w", 2)
    for _ in ids:
        await bench.turn(2)
        bench.queues.beat("w")
    sent = items(stream)
    for id in ids:
        bench.queues.complete(id, Succeeded("here"), attempt=1, worker_id="w")

    assert sorted(sent, key=str) == [0, 1]
    assert [await bench.settle(item) for item in range(2)] == [Succeeded("here")] * 2


@pytest.fixture
async def shared() -> MemoryBackend:
    return MemoryBackend(shared=True, clock=TurnedClock())


async def test_workers_of_another_engine_do_what_nobody_here_can(shared: MemoryBackend) -> None:
    async with site(shared) as bare, site(shared) as there:
        bare.learn()
        there.worker(slots=4)

        assert await results(bare, list(range(20))) == [2 * item for item in range(20)]
        assert sorted(there.done) == list(range(20))
        assert bare.done == []


async def test_what_the_workers_of_another_engine_can_do_is_known_here(shared: MemoryBackend) -> None:
    async with site(shared) as bare, site(shared) as there:
        there.worker(slots=4)

        assert await results(bare, [1, 2]) == [2, 4]
        assert bare.plugin.components({}) == there.plugin.components({}) == tuple(DOUBLE)


async def test_three_engines_share_the_workers_of_one(shared: MemoryBackend) -> None:
    async with site(shared) as one, site(shared) as two, site(shared) as three:
        for each in (one, two):
            each.learn()
        three.worker(slots=8)
        outputs: list[Any] = []

        async def run(each: Site, first: int) -> None:
            outputs.append(await results(each, list(range(first, first + 30))))

        async with anyio.create_task_group() as tasks:
            for number, each in enumerate((one, two, three)):
                tasks.start_soon(run, each, 100 * number)

        assert sorted(value for each in outputs for value in each) == [
            2 * (100 * n + item) for n in range(3) for item in range(30)
        ]
        assert len(three.done) == 90
        assert three.busiest == 8


async def test_the_limit_of_a_run_holds_at_the_workers_of_another_engine(shared: MemoryBackend) -> None:
    async with site(shared) as bare, site(shared) as there:
        bare.learn()
        run = await bare.engine.submit(FLOW, list(range(20)), max_concurrency=2)
        await bare.clock.sleep(30)
        waited = set(bare.waits.reasons)
        there.worker(slots=20)
        await run.wait()

        assert waited == {"no worker serves queue 'cpu'"}
        assert there.busiest <= 3  # the one that looked whether anybody serves the queue has no slot
        assert sorted(there.done) == list(range(20))


async def test_a_queue_timeout_counts_while_other_engines_are_asked(shared: MemoryBackend) -> None:
    async with site(shared, settings=Settings(queue_timeout_s=5.0)) as bare, site(shared):
        bare.learn()
        run = await bare.engine.submit(FLOW, [1])
        (result,) = [result async for result in run.results()]

    assert result.error is not None
    assert result.error.code is ErrorCode.TIMEOUT


async def test_a_worker_here_is_preferred(shared: MemoryBackend) -> None:
    async with site(shared) as here, site(shared) as there:
        here.worker(slots=20)
        there.worker(slots=20)
        await results(here, list(range(10)))

        assert there.done == []


async def test_when_a_worker_comes_back_home_the_rest_is_done_there(shared: MemoryBackend) -> None:
    async with site(shared) as here:
        here.learn()
        run = await here.engine.submit(FLOW, list(range(10)))
        await here.clock.sleep(30)
        here.worker(slots=2)
        record = await run.wait()

        assert record.status is RunStatus.COMPLETED
        assert sorted(here.done) == list(range(10))
        assert here.hub.queues.statistics()[0].depth == 0


async def test_what_no_worker_of_the_taker_can_do_goes_back_to_the_others(bench: Bench) -> None:
    (queue,) = bench.queues.all()
    credit = SpareCredit(bench.queues, queue, Settings(), others_have=lambda queue, component: component == "c")
    able, bodies = ours(bench, "old", 2), []

    async def take() -> None:
        await credit.acquire()
        bodies.append(await credit.work(msgspec.json.encode(queued_of(len(bodies)).task)))
        credit.release()

    for _ in range(2):
        bench.tasks.start_soon(take)
        await bench.turn(0)
        for id in able.more(9):
            able.refuse(id.id, Failed(ErrorCode.COMPONENT_NOT_FOUND, "not here"))
        await bench.turn(0)
    at_once = list(bodies)
    await bench.turn(HELD_OFF_S)
    able.more(9)

    assert at_once == [NOT_DONE]
    assert able.unclaimed() != []


async def test_what_only_workers_of_others_can_do_is_not_given_to_those_here(bench: Bench) -> None:
    catalogue = Catalogue()
    there = ComponentInfo(id="c", path="/c")
    exchange = Nobody()
    catalogue.learn("q", "w", [ComponentInfo(id="d", path="/d")], ["w"])
    catalogue.learn_elsewhere("q", [[there]])
    among = Sharing(bench.queues, exchange, bench.clock, catalogue)
    worker = ours(bench, "w", 1)
    id = await share(bench, among, 1)

    await bench.turn(20)
    sent = items(worker)
    catalogue.learn("q", "w", [there], ["w"])
    await bench.turn(20)
    later = items(worker)
    bench.queues.cancel(id)
    await bench.turn(0)

    assert (sent, later) == ([], [1])
    assert exchange.on_offer == []
