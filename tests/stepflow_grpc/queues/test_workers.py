"""Which workers are known, and since when they were heard of."""

import pytest
from queue_bench import Bench

from stepflow_grpc.queues.records import (
    Heard,
)

pytestmark = pytest.mark.anyio


async def test_a_worker_without_a_name_claims_under_the_one_it_gives_then(bench: Bench) -> None:
    stream = bench.queues.connect("q", "")
    id = await bench.offer(1)
    stream.more(1)

    assert bench.queues.heartbeat(id, "named") is Heard.IN_PROGRESS
    assert [worker.id for worker in bench.queues.workers()] == ["named"]
