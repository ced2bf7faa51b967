"""Which answer ends an attempt."""

import pytest
from queue_bench import RUN, Bench, items, ours

from stepflow.records import ErrorCode, Failed, Succeeded
from stepflow_grpc.queues.records import (
    Heard,
    Taken,
)

pytestmark = pytest.mark.anyio

BROKEN = Failed(ErrorCode.COMPONENT_FAILED, "broken")


async def test_a_success_of_an_earlier_attempt_ends_the_task(bench: Bench) -> None:
    ours(bench, "w", 0)
    id = await bench.offer(1, attempt=2)

    assert bench.queues.complete(id, Succeeded("late"), attempt=1) is Taken.ACCEPTED
    assert await bench.settle(1) == Succeeded("late")


async def test_a_failure_of_an_earlier_attempt_changes_nothing(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    id = await bench.offer(1, attempt=2)

    unclaimed = bench.queues.complete(id, BROKEN)
    bench.claim(stream)
    known = bench.queues.complete(id, BROKEN, attempt=1)
    foreign = bench.queues.complete(id, BROKEN, worker_id="other")
    before = dict(bench.outcomes)
    bench.queues.complete(id, BROKEN)

    assert (unclaimed, known, foreign) == (Taken.STALE,) * 3
    assert before == {}
    assert await bench.settle(1) == BROKEN


async def test_a_success_between_two_attempts_saves_the_second(bench: Bench) -> None:
    stream = bench.queues.connect("q", "w")
    id = await bench.offer(1)
    bench.claim(stream)
    await bench.turn(11)
    gave_up = bench.outcomes.pop((RUN, 1))

    between = bench.queues.heartbeat(id, "w"), bench.queues.complete(id, BROKEN)
    kept = bench.queues.complete(id, Succeeded("late"))
    await bench.offer(1, attempt=2)

    assert isinstance(gave_up, Failed)
    assert between == (Heard.IN_PROGRESS, Taken.UNKNOWN)
    assert kept is Taken.ACCEPTED
    assert await bench.settle(1) == Succeeded("late")
    assert items(stream) == []
