"""Workers as the exchange counts them: kept for a task of this engine, or lent to those of others."""

from typing import Any

import anyio
import msgspec
import pytest
from queue_bench import Bench, items, ours, queued_of
from sample_task import task_of

from stepflow.records import ErrorCode, Failed, Succeeded
from stepflow_grpc.queues.credit import ASKED_AGAIN_S, ASKED_FIRST_S, HERE, PATIENCE_S, UNTAKEN, OwnCredit, SpareCredit
from stepflow_grpc.queues.settings import Settings

pytestmark = pytest.mark.anyio


def spare(bench: Bench) -> SpareCredit:
    (queue,) = bench.queues.all()
    return SpareCredit(bench.queues, queue, Settings(queue_timeout_s=1.0))


async def ended(bench: Bench, call: Any, *arguments: Any) -> list[Any]:
    """What the call gives, once it has ended; it runs on beside the test."""
    given: list[Any] = []

    async def wait() -> None:
        given.append(await call(*arguments))

    bench.tasks.start_soon(wait)
    await bench.turn(0)
    return given


async def test_a_task_gets_a_worker_and_is_done_by_it(bench: Bench) -> None:
    entry = bench.queues.enter(queued_of(1))
    credit = OwnCredit(bench.queues, entry, bench.clock)

    acquired = await ended(bench, credit.acquire)
    before = list(acquired)
    stream = ours(bench, "w", 1)
    await bench.turn(0)
    kept = list(acquired), items(stream)
    answer = await ended(bench, credit.work, b"")
    bench.claim(stream)
    bench.queues.complete(entry.id, Succeeded("done"), attempt=1, worker_id="w")
    await bench.turn(0)

    assert (before, kept) == ([], ([None], []))
    assert answer == [HERE]
    assert credit.outcome == Succeeded("done")


async def test_without_a_worker_it_is_asked_after_a_while_whether_another_engine_has_it_and_rarely_again(
    bench: Bench,
) -> None:
    credit = OwnCredit(bench.queues, bench.queues.enter(queued_of(1)), bench.clock)
    asked = []

    for seconds in (ASKED_FIRST_S, ASKED_AGAIN_S):
        acquired = await ended(bench, credit.acquire)
        await bench.turn(seconds - 0.1)
        asked.append(len(acquired))
        await bench.turn(0.2)
        asked.append(len(acquired))
        assert await credit.work(b"") == UNTAKEN

    assert asked == [0, 1, 0, 1]


async def test_another_engine_that_took_it_is_taken_for_one_that_serves_the_queue(bench: Bench) -> None:
    entry = bench.queues.enter(queued_of(1))
    credit = OwnCredit(bench.queues, entry, bench.clock)
    await ended(bench, credit.acquire)
    await bench.turn(ASKED_FIRST_S + 0.1)
    before = bench.queues.absence.is_served_somewhere(entry.queue)

    credit.release()

    assert (before, bench.queues.absence.is_served_somewhere(entry.queue)) == (False, True)


async def test_whoever_stops_waiting_for_a_worker_keeps_none(bench: Bench) -> None:
    stream = ours(bench, "w", 0)
    entry = bench.queues.enter(queued_of(1))
    credit = OwnCredit(bench.queues, entry, bench.clock)
    with anyio.CancelScope() as scope:
        bench.tasks.start_soon(_cancel_when_blocked, scope)
        await credit.acquire()

    stream.grant(1)

    assert scope.cancelled_caught
    assert (entry.is_in_line, entry.reserved, stream.credit) == (False, None, 1)


async def test_no_more_workers_are_lent_than_are_free(bench: Bench) -> None:
    stream = ours(bench, "w", 2)
    credit = spare(bench)

    credit.acquire_nowait()
    credit.acquire_nowait()
    with pytest.raises(anyio.WouldBlock):
        credit.acquire_nowait()
    third = await ended(bench, credit.acquire)
    before = list(third)
    credit.release()
    await bench.turn(0)

    assert before == []
    assert third == [None]
    assert stream.credit == 0


async def test_a_worker_is_lent_only_while_nothing_of_this_engine_waits(bench: Bench) -> None:
    stream = ours(bench, "w", 0)
    lent = await ended(bench, spare(bench).acquire)
    await bench.offer(1)

    stream.grant(1)
    await bench.turn(0)
    first = list(lent), items(stream)
    with pytest.raises(anyio.WouldBlock):
        spare(bench).acquire_nowait()
    stream.grant(1)
    await bench.turn(0)

    assert first == ([], [1])
    assert lent == [None]


async def test_whoever_stops_waiting_for_a_worker_to_be_lent_has_none(bench: Bench) -> None:
    stream = ours(bench, "w", 0)
    with anyio.CancelScope() as scope:
        bench.tasks.start_soon(_cancel_when_blocked, scope)
        await spare(bench).acquire()

    stream.grant(1)

    assert scope.cancelled_caught
    assert stream.credit == 1


async def test_a_worker_that_was_lent_does_the_others_task_and_is_free_by_its_own_word(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    credit = spare(bench)
    credit.acquire_nowait()
    task = task_of(7)

    answer = await ended(bench, credit.work, msgspec.json.encode(task))
    bench.claim(stream)
    bench.queues.complete(task.id, Succeeded("done"), attempt=1, worker_id="w")
    await bench.turn(0)
    credit.release()

    assert [msgspec.json.decode(body, type=Succeeded | Failed) for body in answer] == [Succeeded("done")]
    assert stream.credit == 0


async def test_a_task_of_another_engine_goes_back_when_its_worker_has_gone(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    credit = spare(bench)
    credit.acquire_nowait()
    stream.disconnect()

    answer = await ended(bench, credit.work, msgspec.json.encode(task_of(7)))
    await bench.turn(PATIENCE_S - 0.1)
    before = list(answer)
    await bench.turn(0.2)

    assert before == []
    (outcome,) = [msgspec.json.decode(body, type=Succeeded | Failed) for body in answer]
    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.UNREACHABLE


async def _cancel_when_blocked(scope: anyio.CancelScope) -> None:
    await anyio.wait_all_tasks_blocked()
    scope.cancel()
