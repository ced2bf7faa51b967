"""Which workers are known, and since when they were heard of."""

import pytest
from queue_bench import Bench, items, ours
from sample_task import RUN

from stepflow.records import Succeeded
from stepflow_grpc.queues.records import Heard, WorkerKind

pytestmark = pytest.mark.anyio


def known(bench: Bench) -> list[str]:
    return [worker.id for worker in bench.queues.workers()]


async def test_a_worker_without_a_name_claims_under_the_one_it_gives_then(bench: Bench) -> None:
    stream = bench.queues.connect("q", "")
    id = await bench.offer(1)
    stream.more(1)

    assert bench.queues.heartbeat(id, "named") is Heard.IN_PROGRESS
    assert known(bench) == ["named"]


async def test_a_name_that_was_not_sent_a_task_does_not_become_that_of_a_worker_without_one(bench: Bench) -> None:
    bench.queues.connect("q", "")

    heard = bench.queues.heartbeat("a task that nobody waits for", "named")

    assert heard is Heard.UNKNOWN
    assert known(bench) == []


async def test_workers_are_listed_as_they_came_and_forgotten_when_they_go(bench: Bench) -> None:
    one, two = ours(bench, "b", 1), ours(bench, "a", 1)
    again = ours(bench, "b", 1)
    before = known(bench)

    one.disconnect()
    with_one_stream = known(bench)
    again.disconnect()
    left = known(bench)
    two.disconnect()

    assert before == with_one_stream == ["b", "a"]
    assert left == ["a"]
    assert known(bench) == []


async def test_a_worker_that_has_gone_is_known_until_what_it_claimed_has_ended(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    id = await bench.offer(1)
    bench.claim(stream)
    stream.disconnect()
    before = known(bench), bench.queues.beat("w")

    bench.queues.complete(id, Succeeded(1))

    assert before == (["w"], True)
    assert known(bench) == []
    assert not bench.queues.beat("w")


async def test_a_worker_is_one_of_ours_as_soon_as_one_stream_says_so(bench: Bench) -> None:
    bench.queues.connect("q", "w")
    ours(bench, "w", 1)
    bench.queues.connect("q", "w")

    assert [worker.kind for worker in bench.queues.workers()] == [WorkerKind.OURS]


async def test_a_worker_that_speaks_is_heard_of_whatever_it_speaks_of(bench: Bench) -> None:
    bench.queues.connect("q", "w")
    await bench.turn(5)
    (before,) = bench.queues.workers()

    bench.queues.heartbeat("a task that nobody waits for", "w")

    (after,) = bench.queues.workers()
    assert (before.silent_s, after.silent_s) == (pytest.approx(5), pytest.approx(0))


async def test_of_a_worker_that_is_held_up_is_warned_once_with_the_first_few_of_its_tasks(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    stream = ours(bench, "w", 5)
    for item in range(5):
        await bench.offer(item)
    for _ in range(5):
        bench.claim(stream)

    bench.queues.beat("w", held_up_s=1.0)
    before = list(caplog.records)
    for held_up_s in (2.0, 3.0):
        bench.queues.beat("w", held_up_s=held_up_s, stack="where it is")
    (warning,) = [record.getMessage() for record in caplog.records]
    bench.queues.beat("w", held_up_s=0.0)
    bench.queues.beat("w", held_up_s=2.0, stack="again")

    assert before == []
    named = ", ".join([f"step 's' of run {RUN}"] * 3)
    assert f"has had no turn for 2 s; it keeps {named}, 2 more\nwhere it is" in warning
    assert len(caplog.records) == 2


async def test_a_worker_without_a_stream_that_was_never_sent_a_task_gets_none(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    id = await bench.offer(1)

    assert bench.queues.heartbeat(id, "stranger") is Heard.ALREADY_CLAIMED
    assert known(bench) == ["w"]
    assert items(stream) == [1]
