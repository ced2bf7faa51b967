"""Which task goes to which worker, and where it stands meanwhile."""

import pytest
from queue_bench import OTHER_RUN, Bench, items, ours, queued_of

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


async def test_what_a_worker_declines_is_for_others_at_its_old_place(bench: Bench) -> None:
    one = ours(bench, "one", 2)
    ids = [await bench.offer(item) for item in range(4)]
    one.more(2)
    two = ours(bench, "two", 0)

    one.decline([ids[0], "a task that it was never sent"])
    two.grant(4)

    assert items(two) == [0, 2, 3]
    assert one.unclaimed()[0].id == ids[1]


async def test_a_copy_goes_to_no_worker_that_was_sent_it_before(bench: Bench) -> None:
    one, two = ours(bench, "one", 5), ours(bench, "two", 5)
    await bench.offer(1)
    first = items(one)
    bench.queues.beat("one", held_up_s=1.0)

    await bench.turn(0.3)
    second = items(two)
    for _ in range(3):
        await bench.turn(0.5)
        bench.queues.beat("one", held_up_s=1.0)
        bench.queues.beat("two", held_up_s=1.0)

    assert (first, second) == ([1], [1])
    assert (items(one), items(two)) == ([], [])


async def test_a_task_that_waits_for_credit_alone_keeps_a_worker_free_and_is_not_sent(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    entry = bench.queues.enter(queued_of(1))
    entry.wants_only_credit = True
    distribution = bench.queues.distribution

    distribution.line_up(entry)
    kept = entry.reserved, stream.credit, items(stream)
    distribution.give_credit_back(entry)
    given_back = entry.reserved, stream.credit
    entry.wants_only_credit = False
    distribution.line_up(entry)

    assert kept == (stream, 0, [])
    assert given_back == (None, 1)
    assert items(stream) == [1]
    bench.queues.leave(entry)


async def test_a_worker_that_was_kept_and_has_gone_is_not_waited_for(bench: Bench) -> None:
    gone = ours(bench, "gone", 1)
    entry = bench.queues.enter(queued_of(1))
    entry.wants_only_credit = True
    bench.queues.distribution.line_up(entry)
    gone.disconnect()

    entry.wants_only_credit = False
    stream = ours(bench, "w", 1)
    bench.queues.distribution.line_up(entry)

    assert items(stream) == [1]
    bench.queues.leave(entry)


async def test_a_worker_that_has_more_credit_is_not_sent_again_what_it_has_not_claimed(bench: Bench) -> None:
    stream = ours(bench, "w", 2)
    await bench.offer(0)
    await bench.offer(1)
    bench.claim(stream)
    sent = items(stream)
    for _ in range(3):
        await bench.turn(0.3)
        bench.queues.beat("w", held_up_s=1.0)

    stream.grant(1)
    (queue,) = bench.queues.all()

    assert sent == [1]
    assert len(queue.overdue) == 1
    assert items(stream) == []


async def test_what_is_sent_once_more_to_a_worker_that_comes_leaves_the_line(bench: Bench) -> None:
    slow = bench.queues.connect("q", "slow")
    await bench.offer(1)
    first = items(slow)
    await bench.turn(0.3)

    quick, other = ours(bench, "quick", 2), ours(bench, "other", 2)

    assert first == [1]
    assert (items(quick), items(other)) == ([1], [])
    assert (quick.credit, other.credit) == (1, 2)
