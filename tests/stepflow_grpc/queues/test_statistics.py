"""How queues and workers are, for whoever looks."""

import pytest
from queue_bench import Bench, ours

from stepflow_grpc.queues.records import WorkerReport

pytestmark = pytest.mark.anyio


async def test_statistics_say_what_waits_and_who_is_there(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    await bench.offer(1)
    bench.claim(stream)
    await bench.offer(2)
    await bench.turn(2)
    report = WorkerReport(slots=4, busy=1, rss_bytes=1_000_000)
    bench.queues.beat("w", report)

    (queue,) = bench.queues.statistics()
    (worker,) = bench.queues.workers()

    assert (queue.depth, queue.claimed, queue.workers, queue.slots) == (1, 1, 1, 4)
    assert queue.oldest_s == pytest.approx(2)
    assert (worker.id, worker.queues, worker.claimed, worker.report) == ("w", ("q",), 1, report)


async def test_what_a_worker_does_not_say_of_its_slots_is_counted_by_what_it_was_seen_to_do(bench: Bench) -> None:
    bench.queues.connect("q", "upstream")
    stream = ours(bench, "w", 6)
    before = [worker.slots for worker in bench.queues.workers()]

    for item in range(6):
        await bench.offer(item)
    while stream.has_more:
        bench.claim(stream)

    assert before == [4, 1]
    assert [worker.slots for worker in bench.queues.workers()] == [4, 5]
    assert [worker.unclaimed for worker in bench.queues.workers()] == [1, 0]


async def test_an_empty_queue_has_nothing_that_waits(bench: Bench) -> None:
    (queue,) = bench.queues.statistics()

    assert (queue.depth, queue.claimed, queue.workers, queue.slots) == (0, 0, 0, 0)
    assert (queue.oldest_s, queue.finished, queue.timed_out) == (0.0, 0, 0)
