"""What takes too long is given up, and what nobody claims moves on."""

from typing import Any

import anyio
import pytest
from queue_bench import RUN, Bench, items, ours

from stepflow.records import ErrorCode, Failed, Succeeded
from stepflow.testing.clock import TurnedClock
from stepflow_grpc.queues.records import Heard, Taken, Withdrawn, WorkerKind
from stepflow_grpc.queues.task_queues import TaskQueues

pytestmark = pytest.mark.anyio


async def test_a_queue_timeout_that_is_written_ends_the_waiting(bench: Bench) -> None:
    await bench.offer(1, queue_timeout_s=30.0)
    await bench.offer(2)

    await bench.turn(31)

    outcome = await bench.settle(1)
    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.TIMEOUT
    assert outcome.message.endswith("in queue 'q' within 30 s")
    assert list(bench.outcomes) == [(RUN, 1)]


async def test_what_timed_out_in_the_queue_is_sent_to_nobody(bench: Bench) -> None:
    stream = ours(bench, "w", 0)
    await bench.offer(1, queue_timeout_s=5.0)
    await bench.offer(2)

    await bench.turn(6)
    stream.grant(5)

    assert items(stream) == [2]


async def test_a_claim_ends_the_queue_timeout_and_begins_the_execution_timeout(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    id = await bench.offer(1, queue_timeout_s=5.0, execution_timeout_s=8.0)
    await bench.turn(0.1)
    bench.claim(stream)
    for _ in range(7):
        await bench.turn(1)
        bench.queues.beat("w")
    before = dict(bench.outcomes)
    await bench.turn(1.5)

    outcome = await bench.settle(1)
    assert before == {}
    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.TIMEOUT
    assert outcome.message == f"task {id} took longer than 8 s at worker 'w'"
    assert stream.more(9) == [Withdrawn(id, 1)]


@pytest.mark.parametrize(
    ("kind", "is_connected", "silent_s"),
    [
        (WorkerKind.UPSTREAM, True, 10.0),
        (WorkerKind.UPSTREAM, False, 3.0),
        (WorkerKind.OURS, True, 3.0),
        (WorkerKind.OURS, False, 2.0),
    ],
)
async def test_a_silent_worker_loses_its_task(
    bench: Bench, kind: WorkerKind, is_connected: bool, silent_s: float
) -> None:
    stream = bench.queues.connect("q", "w", kind, credit=1)
    bench.queues.connect("q", "other", kind)
    await bench.offer(1)
    bench.claim(stream)
    if not is_connected:
        stream.disconnect()

    await bench.turn(silent_s - 0.1)
    before = dict(bench.outcomes)
    await bench.turn(0.2)

    outcome = await bench.settle(1)
    assert before == {}
    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.TIMEOUT
    assert "worker 'w' fell silent" in outcome.message


@pytest.mark.parametrize("heard_after_s", [0.3, 1.9])
async def test_a_worker_of_ours_without_a_stream_is_alive_while_it_is_heard_of(
    bench: Bench, heard_after_s: float
) -> None:
    stream = bench.queues.connect("q", "w", WorkerKind.OURS, credit=1)
    await bench.offer(1)
    bench.claim(stream)
    stream.disconnect()

    await bench.turn(heard_after_s)
    bench.queues.beat("w")
    for _ in range(10):
        await bench.turn(1)
        bench.queues.beat("w")
    before = dict(bench.outcomes)
    await bench.turn(3.1)

    outcome = await bench.settle(1)
    assert before == {}
    assert isinstance(outcome, Failed)
    assert "worker 'w' fell silent" in outcome.message


async def test_the_last_words_of_a_worker_of_ours_that_was_killed_give_it_no_more_time(bench: Bench) -> None:
    stream = bench.queues.connect("q", "w", WorkerKind.OURS, credit=1)
    await bench.offer(1)
    bench.claim(stream)
    stream.disconnect()

    await bench.turn(0.1)
    bench.queues.beat("w")
    await bench.turn(2)

    outcome = await bench.settle(1)
    assert isinstance(outcome, Failed)
    assert "worker 'w' fell silent" in outcome.message


@pytest.mark.parametrize("kind", list(WorkerKind))
async def test_a_worker_that_fell_silent_is_sent_nothing_until_it_is_heard_of(bench: Bench, kind: WorkerKind) -> None:
    stream = bench.queues.connect("q", "w", kind, credit=5)
    id = await bench.offer(1)
    bench.claim(stream)
    await bench.turn(11)
    await bench.offer(1, attempt=2)
    before = len(stream.out)

    if kind is WorkerKind.UPSTREAM:
        bench.queues.heartbeat(id, "w")
    else:
        bench.queues.beat("w")
    await bench.offer(2)

    assert before == 0
    assert items(stream) == ([2] if kind is WorkerKind.UPSTREAM else [1, 2])


async def test_a_worker_that_beats_keeps_its_task_for_hours(bench: Bench) -> None:
    stream = bench.queues.connect("q", "w")
    id = await bench.offer(1)
    bench.claim(stream)
    stream.disconnect()

    for _ in range(3_600):
        await bench.turn(1)
        assert bench.queues.heartbeat(id, "w") is Heard.IN_PROGRESS

    assert bench.outcomes == {}


class HeldUpClock:
    """A clock of a process that did not get to run for a while."""

    def __init__(self, inner: TurnedClock) -> None:
        self.inner = inner
        self.held_up_s = 0.0

    def now(self) -> float:
        return self.inner.now() + self.held_up_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def test_a_look_that_came_late_gives_nobody_up_who_could_not_be_heard() -> None:
    clock = HeldUpClock(TurnedClock())
    queues = TaskQueues(clock)
    queues.configure("q")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queues.run)
        bench = Bench(queues, clock.inner, tasks)
        clock.inner.manual()
        stream = ours(bench, "w", 1)
        await bench.offer(1)
        bench.claim(stream)
        await bench.turn(2.9)
        clock.held_up_s += 60
        await bench.turn(0.2)
        queues.beat("w")
        await bench.turn(2.9)
        before = dict(bench.outcomes)
        await bench.turn(1)
        after = dict(bench.outcomes)
        tasks.cancel_scope.cancel()

    assert before == {}
    assert list(after) == [(RUN, 1)]


async def test_what_is_not_claimed_goes_to_an_idle_worker_and_the_first_claim_wins(bench: Bench) -> None:
    slow = bench.queues.connect("q", "slow")
    id = await bench.offer(1)
    slow.more(1)
    quick = bench.queues.connect("q", "quick")
    await bench.turn(0.2)
    before = items(quick)
    await bench.turn(0.1)

    assert before == []
    assert bench.claim(quick) == id
    assert bench.queues.heartbeat(id, "slow") is Heard.ALREADY_CLAIMED
    assert bench.queues.complete(id, Succeeded("quick")) is Taken.ACCEPTED
    assert await bench.settle(1) == Succeeded("quick")


@pytest.mark.parametrize("is_sent", [True, False])
async def test_a_stream_that_nobody_reads_holds_up_one_task_and_no_other(bench: Bench, is_sent: bool) -> None:
    dead = bench.queues.connect("q", "dead")
    alive = bench.queues.connect("q", "alive")
    for item in range(20):
        await bench.offer(item)
    if is_sent:
        dead.more(1)
    turns = 0
    while len(bench.outcomes) < 20:
        turns += 1
        await bench.turn(0.01)
        while pulled := alive.more(1):
            bench.queues.heartbeat(pulled[0].id, "alive")  # type: ignore[union-attr]
            bench.queues.complete(pulled[0].id, Succeeded(None))  # type: ignore[union-attr]

    assert turns <= 30
    assert dead.worker.is_stalled


async def test_a_worker_whose_claim_was_lost_gets_work_again(bench: Bench) -> None:
    stream = bench.queues.connect("q", "w")
    await bench.offer(1)
    stream.more(1)

    await bench.turn(6)

    assert items(stream) == [1]
