"""Which answer ends an attempt."""

import pytest
from queue_bench import RUN, Bench, items, ours
from sample_task import task_of

from stepflow.records import ErrorCode, Failed, Succeeded, Task
from stepflow_grpc.queues.queue import RETURNS_WITHIN_S
from stepflow_grpc.queues.records import Heard, QueuedTask, Taken, Withdrawn

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


async def test_what_no_worker_of_its_queue_can_take_fails_as_the_last_of_them_said(bench: Bench) -> None:
    one, two = ours(bench, "one", 1), ours(bench, "two", 1)
    id = await bench.offer(1)
    (first,) = one.more(1)
    one.refuse(id, Failed(ErrorCode.COMPONENT_NOT_FOUND, "not here"))
    before = dict(bench.outcomes)

    second = items(two)
    two.refuse(id, Failed(ErrorCode.COMPONENT_NOT_FOUND, "nor here"))

    assert first is not None
    assert before == {}
    assert second == [1]
    assert await bench.settle(1) == Failed(ErrorCode.COMPONENT_NOT_FOUND, "nor here")
    assert [stream.credit for stream in (one, two)] == [1, 1]


async def test_what_one_worker_refused_waits_for_the_other_and_fails_when_that_one_stays_away(bench: Bench) -> None:
    one, busy = ours(bench, "one", 1), ours(bench, "busy", 0)
    id = await bench.offer(1)
    one.more(1)
    one.refuse(id, BROKEN)
    await bench.turn(10)
    before = dict(bench.outcomes), items(one)

    busy.disconnect()
    await bench.turn(RETURNS_WITHIN_S - 1)
    meanwhile = dict(bench.outcomes)
    await bench.turn(2)

    assert before == ({}, [])
    assert meanwhile == {}
    assert await bench.settle(1) == BROKEN


async def test_what_one_worker_refused_is_done_by_the_successor_of_one_that_went(bench: Bench) -> None:
    one, able = ours(bench, "one", 1), ours(bench, "able", 1)
    able.disconnect()
    id = await bench.offer(1)
    one.more(1)
    one.refuse(id, BROKEN)
    await bench.turn(RETURNS_WITHIN_S - 1)

    successor = ours(bench, "successor", 1)
    claimed = bench.claim(successor)
    bench.queues.complete(id, Succeeded("done"), attempt=1, worker_id="successor")

    assert claimed == id
    assert await bench.settle(1) == Succeeded("done")


async def test_the_first_worker_that_comes_to_tasks_decides_alone_only_after_a_while(bench: Bench) -> None:
    id = await bench.offer(1)
    one = ours(bench, "one", 1)
    await bench.turn(0)
    one.more(1)
    one.refuse(id, BROKEN)
    await bench.turn(RETURNS_WITHIN_S - 1)
    before = dict(bench.outcomes)
    await bench.turn(2)

    assert before == {}
    assert await bench.settle(1) == BROKEN


async def test_what_a_former_engine_had_given_out_waits_for_the_worker_that_could_do_it(bench: Bench) -> None:
    one = ours(bench, "one", 1)
    task = task_of(1, attempt=2, was_cut_off=True)
    entry = bench.queues.enter(QueuedTask(id=task.id, task=task, queue="q"))
    bench.queues.distribution.line_up(entry)
    one.more(1)
    one.refuse(entry.id, BROKEN)
    await bench.turn(RETURNS_WITHIN_S - 1)
    before = entry.outcome
    await bench.turn(2)

    assert before is None
    assert entry.outcome == BROKEN
    bench.queues.leave(entry)


async def test_who_left_a_queue_is_known_for_a_while(bench: Bench) -> None:
    known = []
    ours(bench, "one", 1).disconnect()
    for wait_s in (0, RETURNS_WITHIN_S - 1, 2):
        await bench.turn(wait_s)
        known.append(list(bench.queues.left_lately("q")))
    ours(bench, "two", 1).disconnect()
    ours(bench, "two", 1)

    assert known == [["one"], ["one"], []]
    assert bench.queues.left_lately("q") == []
    assert bench.queues.left_lately("none") == ()


async def test_what_a_worker_refused_is_done_by_one_that_comes(bench: Bench) -> None:
    one, _ = ours(bench, "one", 1), ours(bench, "busy", 0)
    id = await bench.offer(1)
    one.more(1)
    one.refuse(id, BROKEN)

    new = ours(bench, "new", 1)
    bench.claim(new)
    bench.queues.complete(id, Succeeded("done"), attempt=1, worker_id="new")

    assert await bench.settle(1) == Succeeded("done")


async def test_only_the_worker_that_has_it_is_told_that_nobody_wants_it(bench: Bench) -> None:
    one, two = ours(bench, "one", 1), ours(bench, "two", 1)
    id = await bench.offer(1)
    bench.claim(one)

    bench.queues.cancel(id)

    assert (one.more(9), two.more(9)) == ([Withdrawn(id, 1)], [])


async def test_answers_count_and_what_was_given_up_counts_apart(bench: Bench) -> None:
    stream = ours(bench, "w", 3)
    ids = [await bench.offer(item, execution_timeout_s=1.0) for item in range(3)]
    for _ in ids:
        bench.claim(stream)

    bench.queues.complete(ids[0], Succeeded(0))
    bench.queues.complete(ids[1], BROKEN)
    await bench.turn(1.5)

    (queue,) = bench.queues.statistics()
    assert (queue.finished, queue.timed_out, queue.claimed, queue.depth) == (2, 1, 0, 0)


async def test_the_time_until_the_claim_is_told_before_the_outcome(bench: Bench) -> None:
    noted: list[tuple[int, float]] = []
    stream = ours(bench, "w", 1)

    def note(task: Task, seconds: float) -> None:
        assert (RUN, task.item) not in bench.outcomes
        noted.append((task.item, seconds))

    await bench.offer(1, note_queued=note)
    first = bench.claim(stream)
    second = await bench.offer(2, note_queued=note)
    await bench.turn(2)
    bench.queues.complete(first, Succeeded(1))
    stream.grant(1)
    assert bench.claim(stream) == second
    await bench.turn(0.5)
    bench.queues.complete(second, BROKEN)

    assert await bench.settle(2) == BROKEN
    assert noted == [(1, 0), (2, 2)]


async def test_of_what_is_given_up_the_time_in_the_queue_is_told_too(bench: Bench) -> None:
    noted: list[float] = []
    await bench.offer(1, queue_timeout_s=5, note_queued=lambda task, seconds: noted.append(seconds))

    await bench.turn(6)

    assert isinstance(await bench.settle(1), Failed)
    assert noted == [5]
