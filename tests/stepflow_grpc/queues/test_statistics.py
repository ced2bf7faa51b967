"""How queues and workers are, for whoever looks."""

import pytest
from queue_bench import Bench, ours

from stepflow_grpc.queues.records import (
    WorkerReport,
)

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
