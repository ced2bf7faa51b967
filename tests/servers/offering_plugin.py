"""A plugin that has no workers of its own sort: its tasks go to whoever the engine's exchange finds."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import msgspec

from stepflow.engine import Engine
from stepflow.protocols import Host
from stepflow.records import ComponentInfo, Json, Offer, Outcome, Succeeded, Task


class OfferingPlugin:
    """A subclass says what one of `workers` makes of a task's input, which is what `work` is given."""

    def __init__(self, workers: int) -> None:
        self.credit = anyio.Semaphore(workers)
        self.engine: Engine | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo]:
        return [ComponentInfo(id="work")]

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        return None

    async def perform(self, task: Task, host: Host) -> Outcome:
        assert self.engine is not None
        body = msgspec.json.encode(task.input)
        offer = Offer(task_id=task.id, attempt=task.attempt, run_id=task.run_id, queue="gpu", body=body)
        return Succeeded(msgspec.json.decode(await self.engine.exchange.perform(offer, self.credit, self.work)))

    async def work(self, body: bytes) -> bytes:
        raise NotImplementedError
