"""How far tasks of other engines are, from the workers here to the engines that gave them. Best effort, and seldom."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from stepflow.errors import StoreError
from stepflow.protocols import Clock
from stepflow.records import Json, RunId, Task, TaskId

EVERY_S = 1.0
"""How often another engine is told of the same task at most."""

MOST_TASKS = 100
"""Of how many it is told each time at most: those that spoke last."""

MOST_BYTES = 64 * 1024
"""What says more is not passed on."""


class Report(msgspec.Struct, frozen=True):
    """The last that a worker said of a task."""

    run_id: RunId
    task_id: TaskId
    progress: bytes  # JSON
    authorization: str | None  # the worker's, which speaks for itself there too


class Reports:
    """What was said since it was passed on last: of each task the newest."""

    def __init__(self, clock: Clock) -> None:
        self.authorization: Callable[[], str | None] = lambda: None  # of who is speaking; set by whoever takes calls
        self._clock = clock
        self._said: dict[TaskId, Report] = {}
        self._news = asyncio.Event()

    def tell(self, task: Task, progress: Json) -> None:
        """A worker says how far a task of another engine is."""
        text = msgspec.json.encode(progress)
        if len(text) > MOST_BYTES:
            return
        self._said.pop(task.id, None)
        self._said[task.id] = Report(task.run_id, task.id, text, self.authorization())
        if len(self._said) > MOST_TASKS:
            del self._said[next(iter(self._said))]
        self._news.set()

    async def run(self, pass_on: Callable[[Report], Awaitable[None]]) -> None:
        """Pass it on, until it is cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            told, self._said = self._said, {}
            await asyncio.gather(*(_tried(pass_on, report) for report in told.values()))
            await self._clock.sleep(EVERY_S)


async def _tried(pass_on: Callable[[Report], Awaitable[None]], report: Report) -> None:
    try:
        await pass_on(report)
    except StoreError:
        return  # who drives the run is not known now; the worker will say more
