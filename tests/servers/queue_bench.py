"""Queues over a clock that the test turns, and whoever offers tasks to them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup
from sample_task import RUN, task_of

from stepflow.records import Json, Outcome, Task
from stepflow.testing.clock import TurnedClock
from stepflow_grpc.queues.records import Heard, QueuedTask, WorkerKind
from stepflow_grpc.queues.stream import Stream
from stepflow_grpc.queues.task_queues import TaskQueues

OTHER_RUN = "019a0000-0000-7000-8000-000000000002"


class Bench:
    """Queues, and whoever offers tasks to them."""

    def __init__(self, queues: TaskQueues, clock: TurnedClock, tasks: TaskGroup) -> None:
        self.queues = queues
        self.clock = clock
        self.outcomes: dict[tuple[str, int], Outcome] = {}
        self.waits: list[str] = []
        self.tasks = tasks

    @asynccontextmanager
    async def waiting(self, task: Task, reason: str) -> AsyncIterator[None]:
        self.waits.append(reason)
        yield
        self.waits.append("")

    async def offer(self, item: int, run: str = RUN, attempt: int = 1, **limits: Any) -> str:
        queued = queued_of(item, run, attempt, **limits)
        self.tasks.start_soon(self._offer, queued)
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


@asynccontextmanager
async def opened_bench() -> AsyncIterator[Bench]:
    """One queue, "q"."""
    clock = TurnedClock()
    clock.manual()
    queues = TaskQueues(clock)
    queues.configure("q")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queues.run)
        yield Bench(queues, clock, tasks)
        tasks.cancel_scope.cancel()


def queued_of(item: int, run: str = RUN, attempt: int = 1, **limits: Any) -> QueuedTask:
    task = task_of(item, run, attempt=attempt)
    return QueuedTask(id=task.id, task=task, queue="q", **limits)


def items(stream: Stream) -> list[Json]:
    return [pulled.task.input for pulled in stream.more(1000) if isinstance(pulled, QueuedTask)]


def ours(bench: Bench, worker: str, credit: int) -> Stream:
    return bench.queues.connect("q", worker, WorkerKind.OURS, credit=credit)
