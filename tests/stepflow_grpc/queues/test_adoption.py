"""Tasks of an engine that is gone: whoever has them keeps them, and what nobody has is done again after a while."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from sample_task import task_of

from stepflow.records import ErrorCode, Failed, Outcome, Succeeded, Task
from stepflow.testing.clock import TurnedClock
from stepflow_grpc.queues.entry import SILENT_S
from stepflow_grpc.queues.records import QueuedTask, WorkerKind
from stepflow_grpc.queues.stream import Stream
from stepflow_grpc.queues.task_queues import TaskQueues

pytestmark = pytest.mark.anyio

CUT_OFF = QueuedTask(id="t", task=task_of(0, attempt=2, was_cut_off=True), queue="q")


class Takeover:
    """A task that is offered again, and two workers that are connected."""

    def __init__(self, queues: TaskQueues, clock: TurnedClock) -> None:
        self.queues = queues
        self.clock = clock
        self.had = self.connect("had")
        self.idle = self.connect("idle")
        self.outcome: Outcome | None = None

    def connect(self, name: str) -> Stream:
        return self.queues.connect("q", name, WorkerKind.OURS, credit=1)

    async def offer(self) -> None:
        @asynccontextmanager
        async def waiting(task: Task, reason: str) -> AsyncIterator[None]:
            yield

        self.outcome = await self.queues.offer(CUT_OFF, waiting)

    def given(self) -> list[str]:
        return [stream.worker.id for stream in (self.had, self.idle) if stream.more(1)]


@pytest.fixture
async def takeover() -> AsyncIterator[Takeover]:
    clock = TurnedClock()
    clock.manual()
    queues = TaskQueues(clock)
    queues.configure("q")
    async with anyio.create_task_group() as tasks:
        made = Takeover(queues, clock)
        tasks.start_soon(queues.run)
        yield made
        tasks.cancel_scope.cancel()


@pytest.fixture
async def offered(takeover: Takeover) -> AsyncIterator[Takeover]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(takeover.offer)
        await takeover.clock.advance(0)
        yield takeover
        tasks.cancel_scope.cancel()


async def test_it_is_given_to_nobody_before_its_worker_could_be_heard_of(offered: Takeover) -> None:
    await offered.clock.advance(SILENT_S - 0.1)
    before = offered.given()
    await offered.clock.advance(0.2)

    assert before == []
    assert len(offered.given()) == 1


async def test_the_worker_that_says_to_have_it_keeps_it(offered: Takeover) -> None:
    offered.queues.reconcile("had", {"t"})
    for _ in range(5):
        await offered.clock.advance(1)
        offered.queues.beat("had")

    assert offered.given() == []
    offered.queues.complete("t", Succeeded(7), attempt=1, worker_id="had")
    await offered.clock.advance(0)
    assert offered.outcome == Succeeded(7)


async def test_its_failure_there_is_that_of_the_new_attempt(offered: Takeover) -> None:
    broken = Failed(ErrorCode.COMPONENT_FAILED, "broken")
    offered.queues.reconcile("had", {"t"})

    offered.queues.complete("t", broken, attempt=1, worker_id="had")
    await offered.clock.advance(0)

    assert offered.outcome == broken


async def test_a_worker_that_had_told_before_the_run_was_taken_over_keeps_it(takeover: Takeover) -> None:
    takeover.queues.reconcile("had", {"t"})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(takeover.offer)
        for _ in range(5):
            await takeover.clock.advance(1)
            takeover.queues.beat("had")
        claimed = [worker.claimed for worker in takeover.queues.workers()]
        given = takeover.given()
        tasks.cancel_scope.cancel()

    assert (claimed, given) == ([1, 0], [])


async def test_what_a_worker_has_answered_since_is_not_its_own(takeover: Takeover) -> None:
    takeover.queues.reconcile("had", {"t"})
    takeover.queues.complete("t", Succeeded(7), attempt=1, worker_id="had")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(takeover.offer)
        await takeover.clock.advance(SILENT_S + 0.1)
        given = takeover.given()
        tasks.cancel_scope.cancel()

    assert len(given) == 1
