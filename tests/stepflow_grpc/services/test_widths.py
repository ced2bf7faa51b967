"""Tasks that are larger than what gRPC takes by itself, and workers that are not told to take more."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest

from stepflow.engine import Engine
from stepflow.records import ComponentInfo, Json, Succeeded
from stepflow_grpc.messages import NUMBERS, methods, new
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.queues import queue
from stepflow_grpc.services.widths import USUAL_BYTES
from stepflow_grpc.wire import complete, component_message, from_value, to_struct, to_value

pytestmark = pytest.mark.anyio

ONE: dict[str, Json] = {
    "steps": [{"id": "s", "component": "/w/echo", "input": {"$input": "$"}}],
    "output": {"$step": "s"},
}
WRAPPED: Json = {"a": {"b": {"c": {"d": {"e": {"$input": "$"}}}}}}
LARGE = "x" * USUAL_BYTES


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    plugin = QueuePlugin(name="workers", queue="default")
    async with Engine(plugins={"workers": plugin}, routes={"/w": [{"plugin": "workers"}]}) as opened:
        yield opened


class Worker:
    """Pulls, as often as its connection breaks, and answers how long the input is."""

    def __init__(self, port: int, id: str, calls: Any, *, is_wide: bool) -> None:
        self._options = [("grpc.max_receive_message_length", -1)] if is_wide else []
        self._port = port
        self._calls = calls
        self.id = id
        self.breaks = 0
        self.done: list[int] = []
        self.introduced = anyio.Event()

    async def serve(self, *, until: int | None = None) -> None:
        """Do tasks until so many are done."""
        while len(self.done) != until:
            try:
                await self._connected(until)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                self.breaks += 1
                assert self.breaks < 10

    async def _connected(self, until: int | None) -> None:
        method = methods("TasksService")["PullTasks"]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}", self._options) as channel:
            stub = channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
            async for message in stub(new("PullTasksRequest", queue_name="default", worker_id=self.id), timeout=120):
                await (self._do if message.WhichOneof("task") == "execute" else self._introduce)(message)
                if len(self.done) == until:
                    return

    async def _introduce(self, question: Any) -> None:
        answer: Any = new("CompleteTaskRequest", task_id=question.task_id)
        answer.list_components.components.append(component_message(ComponentInfo(id="echo")))
        await self._calls("OrchestratorService", "CompleteTask", answer)
        self.introduced.set()

    async def _do(self, task: Any) -> None:
        claim = {"task_id": task.task_id, "worker_id": self.id or "somebody"}
        await self._calls("OrchestratorService", "TaskHeartbeat", **claim)
        length = len(str(from_value(task.execute.input)))
        await self._calls("OrchestratorService", "CompleteTask", complete(task.task_id, "", Succeeded(length)))
        self.done.append(length)


async def begun(calls: Any, *inputs: Any, flow: dict[str, Json] = ONE) -> str:
    flow_id = (await calls("FlowsService", "StoreFlow", flow=to_struct(flow))).flow_id
    values = [to_value(each) for each in inputs]
    return str((await calls("RunsService", "CreateRun", flow_id=flow_id, input=values)).summary.run_id)


async def results(calls: Any, run_id: str) -> list[Any]:
    await calls("RunsService", "GetRun", run_id=run_id, wait=True)
    return list((await calls("RunsService", "GetRunItems", run_id=run_id)).results)


@pytest.mark.parametrize("id", ["w", ""])
async def test_a_task_that_no_worker_can_take_fails_and_others_are_done(server: Any, calls: Any, id: str) -> None:
    worker = Worker(server.port, id, calls, is_wide=False)

    run_id = await begun(calls, LARGE, LARGE, "ab")
    await worker.serve(until=1)
    refused, _, small = await results(calls, run_id)

    assert worker.done == [2]
    assert from_value(small.output) == 2
    assert worker.breaks == 2
    assert refused.error_code == NUMBERS["TASK_ERROR_CODE_INVALID_INPUT"]
    assert "step 's' makes a message of 4.0 MiB" in refused.error_message
    assert "grpc.max_receive_message_length" in refused.error_message


async def test_a_worker_that_takes_more_is_given_what_another_can_not(server: Any, calls: Any) -> None:
    narrow, wide = (Worker(server.port, id, calls, is_wide=id == "wide") for id in ("narrow", "wide"))
    await begun(calls, LARGE, "ab")
    await narrow.serve(until=1)
    narrow.introduced = anyio.Event()

    async with anyio.create_task_group() as tasks:
        for worker in (narrow, wide):
            tasks.start_soon(worker.serve)
            await worker.introduced.wait()
        ended = await results(calls, await begun(calls, *[LARGE] * 4))
        tasks.cancel_scope.cancel()

    assert [from_value(each.output) for each in ended] == [USUAL_BYTES] * 4
    assert narrow.breaks == 2


async def test_a_task_fails_when_the_last_worker_that_might_take_it_leaves(
    server: Any, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "RETURNS_WITHIN_S", 0.2)
    narrow, busy = (Worker(server.port, id, calls, is_wide=False) for id in ("narrow", "busy"))
    await begun(calls, LARGE, "ab")
    await narrow.serve(until=1)
    narrow.introduced = anyio.Event()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(narrow.serve)
        await narrow.introduced.wait()
        async with anyio.create_task_group() as other:
            other.start_soon(busy.serve)
            await busy.introduced.wait()
            run_id = await begun(calls, *[LARGE] * 2)
            while busy.breaks < 1:
                await anyio.sleep(0)
            other.cancel_scope.cancel()
        ended = await results(calls, run_id)
        tasks.cancel_scope.cancel()

    assert {each.error_code for each in ended} == {NUMBERS["TASK_ERROR_CODE_INVALID_INPUT"]}


async def test_an_input_that_no_message_carries_fails_its_step_and_others_are_done(server: Any, calls: Any) -> None:
    worker = Worker(server.port, "w", calls, is_wide=False)
    deep = "ab"
    for _ in range(45):
        deep = [deep]  # type: ignore[assignment]
    wrapped: dict[str, Json] = {**ONE, "steps": [{"id": "s", "component": "/w/echo", "input": WRAPPED}]}

    run_id = await begun(calls, deep, flow=wrapped)
    await begun(calls, "ab")
    await worker.serve(until=1)
    (refused,) = await results(calls, run_id)

    assert (worker.done, worker.breaks) == ([2], 0)
    assert refused.error_code == NUMBERS["TASK_ERROR_CODE_INVALID_INPUT"]
    assert "step 's' can't be sent to this kind of worker: it is nested too deeply" in refused.error_message


async def test_a_schema_that_no_message_carries_hides_no_component(server: Any, calls: Any) -> None:
    schemas = ("[" * 5_000, '{"a":' * 60 + "1" + "}" * 60, '{"type": "string"}')
    method = methods("TasksService")["PullTasks"]
    stub = calls._channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
    stream = stub(new("PullTasksRequest", queue_name="default", worker_id="w"), timeout=120)
    answer: Any = new("CompleteTaskRequest", task_id=(await stream.read()).task_id)
    answer.list_components.components.extend(
        new("ComponentInfo", component_id=f"c{number}", input_schema=text) for number, text in enumerate(schemas)
    )
    await calls("OrchestratorService", "CompleteTask", answer)

    listed = (await calls("ComponentsService", "ListRegisteredComponents")).components
    stream.cancel()

    assert [each.component_id for each in listed] == ["c0", "c1", "c2"]
    assert [each.HasField("input_schema") for each in listed] == [False, False, True]
