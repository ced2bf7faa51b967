"""What one queue says of itself: why nobody serves it, whether it is full, and who is next."""

from typing import Any

import pytest
from queue_bench import Bench, items, ours, queued_of

from stepflow_grpc.queues.queue import Queue
from stepflow_grpc.queues.records import QueueLimits

pytestmark = pytest.mark.anyio


def test_what_its_tasks_wait_for_is_said_with_the_reason_that_is_known() -> None:
    queue = Queue("gpu")
    said = [queue.unserved]
    queue.trouble = "its pool does not start"
    said.append(queue.unserved)
    queue.is_warned_of = True
    said.append(queue.unserved)

    assert said == [
        "no worker serves queue 'gpu'",
        "no worker serves queue 'gpu': its pool does not start",
        "no worker has served queue 'gpu' for 30 s: its pool does not start",
    ]


@pytest.mark.parametrize(
    ("ended", "now", "retry_after_s"),
    [
        ([], 0.0, 60.0),
        ([0.0], 10.0, 60.0),
        ([0.0, 10.0], 10.0, 15.0),
        ([0.0, 0.1, 0.2, 0.3], 0.4, 1.0),
        ([0.0, 500.0], 1_000.0, 60.0),
        ([5.0, 5.0], 5.0, 60.0),
    ],
    ids=["nothing has ended", "one alone says no rate", "slow", "fast", "hardly ever", "all at once"],
)
def test_who_is_refused_is_told_to_come_again_when_there_should_be_room(
    ended: list[float], now: float, retry_after_s: float
) -> None:
    queue = Queue("q")
    queue.limits = QueueLimits(max_length=1)
    entries: list[Any] = [object() for _ in range(3)]
    queue.unclaimed = dict.fromkeys(entries)
    queue.ended.extend(ended)

    full = queue.full(now)

    assert full is not None
    assert (full.queue, full.length, full.limit) == ("q", 3, 1)
    assert full.retry_after_s == pytest.approx(retry_after_s)


def test_a_queue_is_full_at_its_limit() -> None:
    queue = Queue("q")
    queue.limits = QueueLimits(max_length=2)
    entries: list[Any] = [object(), object()]

    queue.unclaimed = dict.fromkeys(entries[:1])
    below = queue.full(0.0)
    queue.unclaimed = dict.fromkeys(entries)

    assert below is None
    assert queue.full(0.0) is not None


async def test_a_worker_with_two_streams_is_one(bench: Bench) -> None:
    for name in ("w", "w", "other"):
        ours(bench, name, 1)

    (queue,) = bench.queues.all()

    assert [worker.id for worker in queue.workers] == ["w", "other"]


async def test_who_was_sent_something_comes_after_the_others(bench: Bench) -> None:
    streams = [ours(bench, name, 2) for name in "abc"]

    for item in range(4):
        await bench.offer(item)

    assert [items(stream) for stream in streams] == [[0, 3], [1], [2]]


async def test_everybody_who_waits_looks_after_a_ring(bench: Bench) -> None:
    entries = [bench.queues.enter(queued_of(item)) for item in range(3)]
    changes = [entry.changed() for entry in entries]

    entries[0].queue.ring()

    for change in changes:
        await change
    assert [entry.is_over for entry in entries] == [False] * 3
    for entry in entries:
        bench.queues.leave(entry)
