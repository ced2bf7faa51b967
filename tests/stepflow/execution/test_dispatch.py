"""What is stored before a task leaves the process."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stepflow.engine import Engine
from stepflow.execution.events import StepStarted, decode_events
from stepflow.protocols import Backend, Host
from stepflow.records import ComponentInfo, Json, Outcome, Succeeded, Task

pytestmark = pytest.mark.anyio

FLOW = {"steps": [{"id": "s", "component": "/w/c", "input": {"$input": "$"}}], "output": {"$step": "s"}}


class Away:
    """A plugin that looks at the store while it has a task."""

    def __init__(self, leaves_process: bool) -> None:
        self.leaves_process = leaves_process
        self.backend: Backend | None = None
        self.started: list[bool] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo]:
        return [ComponentInfo(id="c")]

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        """They are known."""

    async def perform(self, task: Task, host: Host) -> Outcome:
        assert self.backend is not None
        rows = await self.backend.journal.history(task.run_id)
        events = [event for row in rows for event in decode_events(row.payload)]
        self.started.append(any(isinstance(event, StepStarted) for event in events))
        return Succeeded(task.input)


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_start_is_stored_before_its_task_leaves_the_process_and_only_then(tmp_path: Path, leaves: bool) -> None:
    plugin = Away(leaves)

    async with Engine(
        store=str(tmp_path / "runs.db"), plugins={"w": plugin}, routes={"/w": [{"plugin": "w"}]}
    ) as engine:
        plugin.backend = engine.backend
        run = await engine.submit(FLOW, [1])
        results = [result.output async for result in run.results()]

    assert results == [1]
    assert plugin.started == [leaves]
