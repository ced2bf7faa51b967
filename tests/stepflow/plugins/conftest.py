"""Components called without an engine."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from stepflow.clock import SystemClock
from stepflow.components import Components
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.protocols import Clock
from stepflow.records import Json, Outcome, Task

RUN = "01933f2c-0000-7000-8000-000000000000"


def make_task(target: str, input: Json = None, *, item: int = 0, attempt: int = 1) -> Task:
    return Task(
        run_id=RUN,
        root_run_id=RUN,
        flow_id="0" * 64,
        item=item,
        step=0,
        step_id="the_step",
        component=target,
        target=target,
        input=input,
        attempt=attempt,
    )


class SlotHost:
    """A host that counts who holds a slot: a call begins with one."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.waits: list[str] = []
        self.waiting_now = 0
        self.reports: list[Json] = []

    @asynccontextmanager
    async def waiting(self, task: Task, reason: str) -> AsyncIterator[None]:
        self.waits.append(reason)
        self.waiting_now += 1
        try:
            yield
        finally:
            self.waiting_now -= 1

    def queued(self, task: Task, seconds: float) -> None:
        """Nothing queues here."""

    def report(self, task: Task, progress: Json) -> None:
        self.reports.append(progress)


@pytest.fixture
def slots() -> SlotHost:
    return SlotHost()


@pytest.fixture
def task() -> Callable[..., Task]:
    return make_task


@pytest.fixture
def perform(slots: SlotHost) -> Callable[..., object]:
    """Opens a plugin for one call."""

    async def call(app: Components, target: str, input: Json = None) -> Outcome:
        plugin = FunctionsPlugin(app)
        async with plugin.open():
            return await plugin.perform(make_task(target, input), slots)

    return call
