"""Whose a task is: of the one that claimed it first, and of the one that has had it all along."""

import pytest
from queue_bench import Bench, items, ours, queued_of

from stepflow.records import ErrorCode, Failed, Succeeded
from stepflow_grpc.queues.records import Heard

pytestmark = pytest.mark.anyio

BROKEN = Failed(ErrorCode.COMPONENT_FAILED, "broken")


async def test_a_claim_counts_after_the_stream_was_cut(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    ours(bench, "idle", 0)
    id = await bench.offer(1)
    stream.more(1)
    stream.disconnect()

    claimed = bench.queues.heartbeat(id, "w")
    other = ours(bench, "other", 1)

    assert claimed is Heard.IN_PROGRESS
    assert items(other) == []


async def test_a_late_heartbeat_takes_no_attempt_that_another_worker_was_sent(bench: Bench) -> None:
    first = bench.queues.connect("q", "first")
    id = await bench.offer(1)
    bench.claim(first)
    first.disconnect()
    second = bench.queues.connect("q", "second")
    await bench.turn(4)
    await bench.offer(1, attempt=2)

    assert bench.queues.heartbeat(id, "first") is Heard.ALREADY_CLAIMED
    assert bench.claim(second) == id


async def test_a_dead_workers_late_heartbeat_does_not_claim_what_waits(bench: Bench) -> None:
    first = bench.queues.connect("q", "first")
    id = await bench.offer(1)
    bench.claim(first)
    first.disconnect()
    await bench.turn(4)
    await bench.offer(1, attempt=2)

    assert bench.queues.heartbeat(id, "first") is Heard.ALREADY_CLAIMED


async def test_a_worker_that_outlived_an_orchestrator_goes_on(bench: Bench) -> None:
    id = await bench.offer(1, attempt=2)

    assert bench.queues.heartbeat(id, "known to the one before", attempt=1) is Heard.IN_PROGRESS
    stream = ours(bench, "w", 1)
    bench.queues.complete(id, BROKEN, attempt=1, worker_id="known to the one before")

    assert await bench.settle(1) == BROKEN
    assert items(stream) == []


async def test_a_later_attempt_takes_over_what_a_worker_is_at(bench: Bench) -> None:
    stream = ours(bench, "w", 2)
    id = await bench.offer(1)
    bench.claim(stream)
    await bench.offer(1, attempt=2)

    sent = items(stream)
    bench.queues.complete(id, Succeeded("once"), attempt=1, worker_id="w")

    assert sent == []
    assert await bench.settle(1) == Succeeded("once")
    assert [each.claimed for each in bench.queues.statistics()] == [0]


@pytest.mark.parametrize("is_claimed", [True, False])
async def test_who_waits_for_an_attempt_goes_on_though_nobody_waits_for_the_next_any_more(
    bench: Bench, is_claimed: bool
) -> None:
    stream = ours(bench, "w", 2)
    id = await bench.offer(1)
    if is_claimed:
        bench.claim(stream)
    later = bench.queues.enter(queued_of(1, attempt=2))
    bench.queues.distribution.line_up(later)

    bench.queues.leave(later)
    await bench.turn(0)
    before = dict(bench.outcomes)
    if not is_claimed:
        bench.claim(stream)
    bench.queues.complete(id, Succeeded("once"), attempt=1, worker_id="w")

    assert before == {}
    assert await bench.settle(1) == Succeeded("once")
    assert [(each.claimed, each.depth) for each in bench.queues.statistics()] == [(0, 0)]
