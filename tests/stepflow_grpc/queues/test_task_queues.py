"""A task's way through a queue: sent against credit, claimed once, answered once."""

import anyio
import pytest
from queue_bench import RUN, Bench, items, ours, queued_of

from stepflow.records import ErrorCode, Failed, Succeeded
from stepflow_grpc.queues.records import Heard, QueuedTask, QueueLimits, QueueNotFoundError, Taken, Withdrawn

pytestmark = pytest.mark.anyio

BROKEN = Failed(ErrorCode.COMPONENT_FAILED, "broken")


async def test_a_task_is_sent_claimed_and_answered(bench: Bench) -> None:
    stream = bench.queues.connect("q", "w")
    id = await bench.offer(1)

    pulled = await stream.next()
    claimed = bench.queues.heartbeat(id, "w")
    taken = bench.queues.complete(id, Succeeded("done"))

    assert isinstance(pulled, QueuedTask)
    assert pulled.task.input == 1
    assert claimed is Heard.IN_PROGRESS
    assert taken is Taken.ACCEPTED
    assert await bench.settle(1) == Succeeded("done")
    assert bench.queues.complete(id, BROKEN) is Taken.UNKNOWN
    assert bench.queues.heartbeat(id, "w") is Heard.UNKNOWN


async def test_an_answer_without_a_claim_counts(bench: Bench) -> None:
    stream = bench.queues.connect("q", "w")
    id = await bench.offer(1)
    await bench.offer(2)

    bench.queues.complete((await stream.next()).id, Succeeded(1))  # type: ignore[union-attr]

    assert await bench.settle(1) == Succeeded(1)
    assert items(stream) == [2]
    assert bench.queues.heartbeat(id, "w") is Heard.UNKNOWN


async def test_a_queue_that_nobody_configured_is_refused_by_name(bench: Bench) -> None:
    with pytest.raises(QueueNotFoundError, match="queue 'gpu' not found"):
        bench.queues.connect("gpu", "w")


async def test_without_a_worker_a_task_waits_and_says_so(bench: Bench) -> None:
    await bench.offer(1)
    before = list(bench.waits)

    stream = bench.queues.connect("q", "w")
    await bench.clock.advance(0)

    assert before == ["no worker serves queue 'q'"]
    assert bench.waits == [*before, ""]
    assert items(stream) == [1]


async def test_what_is_cancelled_is_withdrawn_wherever_it_is(bench: Bench) -> None:
    stream = ours(bench, "w", 2)
    ids = [await bench.offer(item) for item in range(4)]
    bench.claim(stream)

    for id in ids:
        assert bench.queues.cancel(id)

    assert stream.more(9) == [Withdrawn(ids[0], 1)]
    assert stream.credit == 1
    assert {outcome.code for outcome in bench.outcomes.values() if isinstance(outcome, Failed)} <= {ErrorCode.CANCELLED}
    assert not bench.queues.cancel(ids[0])
    assert [each.depth + each.claimed for each in bench.queues.statistics()] == [0]


async def test_who_stops_waiting_withdraws_the_task(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await bench.queues.offer(queued_of(1), bench.waiting)

    assert items(stream) == []
    assert stream.credit == 1


async def test_a_full_queue_refuses_submitters_and_says_when_to_come_again(bench: Bench) -> None:
    bench.queues.configure("q", QueueLimits(max_length=2))
    stream = ours(bench, "w", 0)
    await bench.offer(1)
    room = bench.queues.full("q")
    await bench.offer(2)
    await bench.offer(3)

    full = bench.queues.full("q")
    stream.grant(2)
    bench.claim(stream)
    bench.claim(stream)

    assert room is None
    assert full is not None
    assert (full.length, full.limit, full.retry_after_s) == (3, 2, 60.0)
    assert "queue 'q' is full (3 tasks wait, the limit is 2)" in str(full)
    assert bench.queues.full("q") is None


async def test_tasks_that_have_ended_leave_no_deadline_behind(bench: Bench) -> None:
    stream = ours(bench, "w", 1_000)

    for item in range(500):
        id = await bench.offer(item, queue_timeout_s=600.0)
        stream.more(1)
        bench.queues.complete(id, Succeeded(item), attempt=1, worker_id="w")

    assert len(bench.queues._deadlines._heap) < 200


async def test_what_a_living_worker_claimed_and_does_not_have_is_given_up(bench: Bench) -> None:
    stream = ours(bench, "w", 2)
    lost, kept = await bench.offer(1), await bench.offer(2)
    bench.claim(stream)
    bench.claim(stream)

    for _ in range(4):
        await bench.turn(1)
        bench.queues.reconcile("w", [kept])

    outcome = await bench.settle(1)
    assert isinstance(outcome, Failed)
    assert outcome == Failed(ErrorCode.TIMEOUT, f"worker 'w' does not have task {lost}, which it had claimed")
    assert list(bench.outcomes) == [(RUN, 1)]
