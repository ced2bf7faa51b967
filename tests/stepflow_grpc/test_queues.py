"""A task's way through a queue: sent against credit, claimed once, answered once, given up in time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from stepflow.records import ErrorCode, Failed, Json, Outcome, Succeeded, Task
from stepflow.testing.clock import TurnedClock, turned_backend
from stepflow_grpc.queues.records import (
    Discovery,
    Heard,
    QueuedTask,
    QueueLimits,
    QueueNotFoundError,
    Taken,
    Withdrawn,
    WorkerKind,
    WorkerReport,
)
from stepflow_grpc.queues.stream import Stream
from stepflow_grpc.queues.task_queues import TaskQueues

pytestmark = pytest.mark.anyio

RUN = "019a0000-0000-7000-8000-000000000001"
OTHER_RUN = "019a0000-0000-7000-8000-000000000002"
BROKEN = Failed(ErrorCode.COMPONENT_FAILED, "broken")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return turned_backend(request.param)


def task_of(item: int, run: str = RUN, attempt: int = 1) -> Task:
    return Task(
        run_id=run,
        root_run_id=run,
        flow_id="f",
        item=item,
        step=0,
        step_id="s",
        component="/w/c",
        target="c",
        input=item,
        attempt=attempt,
    )


class Bench:
    """Queues, and whoever offers tasks to them."""

    def __init__(self, queues: TaskQueues, clock: TurnedClock, tasks: TaskGroup) -> None:
        self.queues = queues
        self.clock = clock
        self.outcomes: dict[tuple[str, int], Outcome] = {}
        self.waits: list[str] = []
        self._tasks = tasks

    @asynccontextmanager
    async def waiting(self, task: Task, reason: str) -> AsyncIterator[None]:
        self.waits.append(reason)
        yield
        self.waits.append("")

    async def offer(self, item: int, run: str = RUN, attempt: int = 1, **limits: Any) -> str:
        queued = queued_of(item, run, attempt, **limits)
        self._tasks.start_soon(self._offer, queued)
        await self.clock.advance(0)
        return queued.id

    async def _offer(self, queued: QueuedTask) -> None:
        outcome = await self.queues.offer(queued, self.waiting)
        self.outcomes[queued.task.root_run_id, queued.task.item] = outcome

    async def settle(self, item: int, run: str = RUN) -> Outcome:
        await self.clock.advance(0)
        return self.outcomes[run, item]

    async def turn(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    def claim(self, stream: Stream) -> str:
        """The stream's worker reads one task and claims it."""
        (pulled,) = stream.more(1)
        assert isinstance(pulled, QueuedTask)
        assert self.queues.heartbeat(pulled.id, stream.worker.id) is Heard.IN_PROGRESS
        return pulled.id


def queued_of(item: int, run: str = RUN, attempt: int = 1, **limits: Any) -> QueuedTask:
    task = task_of(item, run, attempt)
    return QueuedTask(id=task.id, task=task, queue="q", **limits)


def items(stream: Stream) -> list[Json]:
    return [pulled.task.input for pulled in stream.more(1000) if isinstance(pulled, QueuedTask)]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = TurnedClock()
    clock.manual()
    queues = TaskQueues(clock)
    queues.configure("q")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queues.run)
        yield Bench(queues, clock, tasks)
        tasks.cancel_scope.cancel()


def ours(bench: Bench, worker: str, credit: int) -> Stream:
    return bench.queues.connect("q", worker, WorkerKind.OURS, credit=credit)


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


class HeldUpClock:
    """A clock of a process that did not get to run for a while."""

    def __init__(self, inner: TurnedClock) -> None:
        self.inner = inner
        self.held_up_s = 0.0

    def now(self) -> float:
        return self.inner.now() + self.held_up_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


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


async def test_an_upstream_worker_is_sent_little_until_it_claims_quickly(bench: Bench) -> None:
    stream = bench.queues.connect("q", "w")
    for item in range(100):
        await bench.offer(item)
    widths = []
    for _ in range(10):
        widths.append(len(stream.out))
        bench.claim(stream)

    assert widths == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]


async def test_an_upstream_worker_that_claims_slowly_is_sent_less(bench: Bench) -> None:
    stream = bench.queues.connect("q", "w")
    for item in range(100):
        await bench.offer(item)
    for _ in range(10):
        bench.claim(stream)
    full = len(stream.out)

    await bench.turn(0.2)
    bench.claim(stream)
    bench.claim(stream)
    await bench.turn(0.3)

    assert full == 8
    assert stream.window == 1


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


async def test_a_copy_that_was_not_sent_yet_is_removed_by_the_claim(bench: Bench) -> None:
    slow = bench.queues.connect("q", "slow")
    id = await bench.offer(1)
    slow.more(1)
    quick = bench.queues.connect("q", "quick")
    await bench.turn(0.3)

    bench.queues.heartbeat(id, "slow")

    assert items(quick) == []
    assert len(quick.out) == 0


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


async def test_a_worker_without_a_name_claims_under_the_one_it_gives_then(bench: Bench) -> None:
    stream = bench.queues.connect("q", "")
    id = await bench.offer(1)
    stream.more(1)

    assert bench.queues.heartbeat(id, "named") is Heard.IN_PROGRESS
    assert [worker.id for worker in bench.queues.workers()] == ["named"]


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


async def test_questions_go_ahead_of_tasks_and_need_no_credit(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    await bench.offer(1)

    stream.tell(Discovery("discovery-1"))

    assert await stream.next() == Discovery("discovery-1")
    assert items(stream) == [1]


async def test_a_closed_stream_ends_its_reader(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    ended: list[str] = []

    async def read() -> None:
        try:
            await stream.next()
        except anyio.EndOfStream:
            ended.append("ended")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await bench.turn(0)
        stream.disconnect()
        stream.disconnect()

    assert ended == ["ended"]


async def test_statistics_say_what_waits_and_who_is_there(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    await bench.offer(1)
    bench.claim(stream)
    await bench.offer(2)
    await bench.turn(2)
    report = WorkerReport(slots=4, busy=1, rss_bytes=1_000_000)
    bench.queues.beat("w", report)

    (queue,) = bench.queues.statistics()
    (worker,) = bench.queues.workers()

    assert (queue.depth, queue.claimed, queue.workers, queue.slots) == (1, 1, 1, 4)
    assert queue.oldest_s == pytest.approx(2)
    assert (worker.id, worker.queues, worker.claimed, worker.report) == ("w", ("q",), 1, report)


async def test_a_queue_without_a_worker_is_warned_of(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.offer(1)
    await bench.offer(2)

    await bench.turn(29)
    before = caplog.text
    await bench.turn(2)

    assert before == ""
    assert "no worker has served queue 'q' for 30 s, and 2 tasks wait in it" in caplog.text


async def test_tasks_that_have_ended_leave_no_deadline_behind(bench: Bench) -> None:
    stream = ours(bench, "w", 1_000)

    for item in range(500):
        id = await bench.offer(item, queue_timeout_s=600.0)
        stream.more(1)
        bench.queues.complete(id, Succeeded(item), attempt=1, worker_id="w")

    assert len(bench.queues._deadlines._heap) < 200
