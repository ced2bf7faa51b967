"""Which task goes to which worker, and where it stands meanwhile."""

import pytest
from queue_bench import OTHER_RUN, Bench, items, ours

pytestmark = pytest.mark.anyio


async def test_runs_share_a_queue(bench: Bench) -> None:
    stream = ours(bench, "w", 0)
    for item in range(3):
        await bench.offer(item)
    for item in range(10, 13):
        await bench.offer(item, run=OTHER_RUN)

    stream.grant(6)

    assert items(stream) == [0, 10, 1, 11, 2, 12]


async def test_two_idle_workers_both_get_work(bench: Bench) -> None:
    one, two = ours(bench, "one", 10), ours(bench, "two", 10)
    for item in range(10):
        await bench.offer(item)

    assert items(one) == [0, 2, 4, 6, 8]
    assert items(two) == [1, 3, 5, 7, 9]


async def test_what_a_lost_stream_had_unclaimed_stands_where_it_stood(bench: Bench) -> None:
    stream = ours(bench, "w", 3)
    for item in range(1, 6):
        await bench.offer(item)
    sent = [stream.more(1)[0], stream.more(1)[0]]
    other = ours(bench, "other", 0)
    bench.queues.heartbeat(sent[0].id, "w")  # type: ignore[union-attr]

    stream.disconnect()
    other.grant(10)

    assert items(other) == [2, 3, 4, 5]


async def test_a_copy_that_was_not_sent_yet_is_removed_by_the_claim(bench: Bench) -> None:
    slow = bench.queues.connect("q", "slow")
    id = await bench.offer(1)
    slow.more(1)
    quick = bench.queues.connect("q", "quick")
    await bench.turn(0.3)

    bench.queues.heartbeat(id, "slow")

    assert items(quick) == []
    assert len(quick.out) == 0
