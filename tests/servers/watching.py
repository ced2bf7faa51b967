"""Somebody who watches an engine for how far components say that they are."""

import asyncio

from stepflow.protocols import Observer
from stepflow.records import Json, RunId, Task


class Watching(Observer):
    def __init__(self) -> None:
        self.told: list[tuple[str, int, Json]] = []

    def on_event(self, run_id: RunId, event: object) -> None:
        pass

    def on_progress(self, task: Task, progress: Json) -> None:
        self.told.append((task.step_id, task.item, progress))

    async def until(self, count: int) -> None:
        async with asyncio.timeout(120):
            while len(self.told) < count:
                await asyncio.sleep(0.005)
