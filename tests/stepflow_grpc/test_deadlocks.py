"""Workers that keep the slot of a component while it waits for a run of its own, and what is said when all do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepflow.engine import Engine
from stepflow.execution.events import StepWaiting
from stepflow.records import ComponentInfo
from stepflow_grpc import deadlocks
from stepflow_grpc.messages import methods, new
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.server import Server
from stepflow_grpc.wire import component_message, to_struct, to_value

pytestmark = pytest.mark.anyio

FLOW = {"steps": [{"id": "s", "component": "/w/echo", "input": {"$input": "$"}}], "output": {"$step": "s"}}


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    plugin = QueuePlugin(name="workers", queue="default")
    async with Engine(plugins={"workers": plugin}, routes={"/w": [{"plugin": "workers"}]}) as opened:
        yield opened


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlocks, "PATIENCE_S", 0.0)
    monkeypatch.setattr(deadlocks, "LOOK_S", 0.01)


class OneSlot:
    """A worker that does one task at a time, and waits within it for another run."""

    def __init__(self, calls: Any) -> None:
        method = methods("TasksService")["PullTasks"]
        stub = calls._channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
        self.calls = calls
        self.stream = stub(new("PullTasksRequest", queue_name="default", worker_id="w"))

    async def introduce(self) -> None:
        question = await self.stream.read()
        request = new("CompleteTaskRequest", task_id=question.task_id)
        request.list_components.components.append(component_message(ComponentInfo(id="echo")))
        await self.calls("OrchestratorService", "CompleteTask", request)

    async def begin(self) -> Any:
        task = await asyncio.wait_for(self.stream.read(), 60)
        await self.calls("OrchestratorService", "TaskHeartbeat", task_id=task.task_id, worker_id="w")
        return task


async def test_steps_behind_the_tasks_that_wait_for_them_name_the_deadlock(
    calls: Any, server: Server, engine: Engine
) -> None:
    worker = OneSlot(calls)
    await worker.introduce()
    flow_id = (await calls("FlowsService", "StoreFlow", flow=to_struct(FLOW))).flow_id
    created = await calls("RunsService", "CreateRun", flow_id=flow_id, input=[to_value(1)])
    task = await worker.begin()
    wanted = new("CreateRunRequest", flow_id=flow_id, input=[to_value(2)], wait=True)
    asked = {"run_request": wanted, "root_run_id": created.summary.run_id}
    waiting = asyncio.ensure_future(calls("OrchestratorService", "SubmitRun", **asked))
    runs: list[Any] = []
    while len(runs) < 2:
        runs = list((await calls("RunsService", "ListRuns")).runs)
    behind = runs[0].run_id
    async with asyncio.timeout(60):
        while "deadlock" not in str(explained := await engine.explain(behind)):
            await asyncio.sleep(0.01)
    holder = str(await engine.explain(created.summary.run_id))
    (queue,) = server.statistics().queues
    await calls("RunsService", "CancelRun", run_id=behind)
    await waiting
    worker.stream.cancel()

    assert "the only slot of queue 'default' is held by a task that waits for a run behind it" in str(explained)
    assert "start another worker for the queue" in str(explained)
    assert "deadlock" in holder
    assert (queue.depth, queue.claimed) == (1, 1)
    assert task.task_id


async def test_a_queue_whose_tasks_wait_for_nobody_is_only_busy(calls: Any, server: Server, engine: Engine) -> None:
    worker = OneSlot(calls)
    await worker.introduce()
    flow_id = (await calls("FlowsService", "StoreFlow", flow=to_struct(FLOW))).flow_id
    inputs = [to_value(1), to_value(2)]
    created = await calls("RunsService", "CreateRun", flow_id=flow_id, input=inputs)
    task = await worker.begin()
    server._deadlocks.look()
    (reported,) = server.statistics().workers
    await engine.cancel(created.summary.run_id)
    worker.stream.cancel()

    reasons = [event.reason async for event in engine.events(created.summary.run_id) if isinstance(event, StepWaiting)]

    assert not any("deadlock" in reason for reason in reasons)
    assert (reported.id, reported.claimed) == ("w", 1)
    assert task.task_id
