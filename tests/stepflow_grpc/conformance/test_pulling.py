"""Checklist 9–22: what a worker that connects is told, and what it is sent."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from stepflow.records import ComponentInfo
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.wire import component_message, from_value

pytestmark = pytest.mark.anyio


async def test_09_a_stream_on_a_configured_queue_stays_open_while_idle(client: Any, pull: Any) -> None:
    async with pull("idle") as worker:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(read := asyncio.ensure_future(worker.next())), 0.3)

        assert not worker.stream.done()
        read.cancel()


@pytest.mark.parametrize("queue", [""])
async def test_10_an_empty_queue_name_is_refused(client: Any, t: Any, queue: str) -> None:
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        await t.Worker(client, queue, "w").next()


async def test_11_a_queue_that_nothing_leads_to_is_not_found(client: Any, t: Any) -> None:
    with pytest.raises(Exception, match="NOT_FOUND"):
        await t.Worker(client, "nowhere", "w").next()


async def test_12_a_worker_is_asked_for_its_components_and_told_where_to_answer(
    client: Any, t: Any, server: Any, connect: Any
) -> None:
    worker = t.Worker(client, "default", "w")
    question = await worker.next()
    worker.stream.cancel()
    port = int(question.context.orchestrator_service_url.rpartition(":")[2])
    async with connect(port) as other:
        request = new("CompleteTaskRequest", task_id="discovery-0")
        request.list_components.SetInParent()
        answered = await other.refused("OrchestratorService", "CompleteTask", request)

    assert question.WhichOneof("task") == "list_components"
    assert answered == "NOT_FOUND"


async def test_13_the_question_needs_no_heartbeat(client: Any, t: Any) -> None:
    worker = t.Worker(client, "default", "w")
    question = await worker.introduce([ComponentInfo(id="echo")])
    worker.stream.cancel()

    assert question.heartbeat_interval_secs == 0
    assert question.context.root_run_id == ""


async def test_14_a_list_may_come_without_run_id_and_after_a_heartbeat(client: Any, t: Any, pull: Any) -> None:
    worker = t.Worker(client, "default", "w")
    question = await worker.next()
    claimed = await client.heartbeat(question, "w")
    request = new("CompleteTaskRequest", task_id=question.task_id)
    request.list_components.components.append(component_message(ComponentInfo(id="after")))
    await client("OrchestratorService", "CompleteTask", request)
    run_id = await client.begin(t.one("/w/after"))
    await worker.do("found")

    assert (claimed.status, claimed.should_abort) == (NUMBERS["TASK_STATUS_IN_PROGRESS"], False)
    assert await client.outputs(run_id) == ["found"]
    worker.stream.cancel()


async def test_15_a_late_list_is_not_found(client: Any, t: Any) -> None:
    worker = t.Worker(client, "default", "w")
    question = await worker.introduce([ComponentInfo(id="echo")])
    request = new("CompleteTaskRequest", task_id=question.task_id)
    request.list_components.SetInParent()

    assert await client.refused("OrchestratorService", "CompleteTask", request) == "NOT_FOUND"
    worker.stream.cancel()


@pytest.mark.parametrize(
    ("component", "target", "params"),
    [
        ("/w/x", "plain", {}),
        ("/w/core/a/b", "rest", {"p": "a/b"}),
        ("/w/u/7/get", "middle", {"id": "7"}),
    ],
)
async def test_16_patterns_are_routed_below_the_prefix(
    client: Any, t: Any, pull: Any, component: str, target: str, params: dict[str, str]
) -> None:
    paths = {"plain": "/x", "rest": "/core/{*p}", "middle": "/u/{id}/get"}
    async with pull("default", "w", *(ComponentInfo(id=id, path=path) for id, path in paths.items())) as worker:
        run_id = await client.begin(t.one(component))
        task = await worker.do("done")

        assert task.execute.component_id == target
        assert dict(task.execute.path_params) == params
        assert await client.outputs(run_id) == ["done"]


async def test_17_an_empty_path_is_that_of_the_id(client: Any, t: Any) -> None:
    worker = t.Worker(client, "default", "w")
    question = await worker.next()
    request = new("CompleteTaskRequest", task_id=question.task_id)
    request.list_components.components.add(component_id="pathless", path="")
    await client("OrchestratorService", "CompleteTask", request)
    run_id = await client.begin(t.one("/w/pathless"))
    await worker.do("done")

    assert await client.outputs(run_id) == ["done"]
    worker.stream.cancel()


async def test_18_schemas_are_json_text_and_what_is_none_is_ignored(client: Any, t: Any) -> None:
    worker = t.Worker(client, "default", "w")
    question = await worker.next()
    request = new("CompleteTaskRequest", task_id=question.task_id)
    request.list_components.components.add(component_id="good", input_schema='{"type": "object"}')
    request.list_components.components.add(component_id="bad", input_schema="{no json")
    await client("OrchestratorService", "CompleteTask", request)
    listed = (await client("ComponentsService", "ListRegisteredComponents")).components
    found = {entry.component_id: entry for entry in listed}
    worker.stream.cancel()

    assert from_value(found["good"].input_schema.fields["type"]) == "object"
    assert not found["bad"].HasField("input_schema")


async def test_19_components_of_a_newly_connected_worker_become_routable(client: Any, t: Any, pull: Any) -> None:
    async with pull("default", "before", "echo"):
        pass
    async with pull("default", "after", "brandnew") as worker:
        run_id = await client.begin(t.one("/w/brandnew"))
        await worker.do("done")

        assert await client.outputs(run_id) == ["done"]


async def test_20_two_workers_on_a_queue_both_receive_work(client: Any, t: Any) -> None:
    async with AsyncExitStack() as stack:
        workers = [t.Worker(client, "default", f"w{number}") for number in range(2)]
        for worker in workers:
            stack.callback(worker.stream.cancel)
            await worker.introduce([ComponentInfo(id="echo")])
        run_id = await client.begin(t.one(), [1, 2])
        tasks = [await worker.next() for worker in workers]
        for worker, task in zip(workers, tasks, strict=True):
            assert not (await worker.claim(task)).should_abort
            await client.answer(task, from_value(task.execute.input))

        assert await client.outputs(run_id) == [1, 2]


async def test_21_tasks_of_a_queue_come_in_the_order_they_were_ready(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one(), list(range(6)))
        seen = [from_value((await worker.do(None)).execute.input) for _ in range(6)]
        await client.results(run_id)

    assert seen == list(range(6))


async def test_22_the_address_for_callbacks_is_plain(client: Any, t: Any, pull: Any, server: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        task = await worker.do(1)
        await client.results(run_id)

    assert task.context.orchestrator_service_url == f"127.0.0.1:{server.port}"


async def test_a_worker_that_connects_without_a_name_gets_work(client: Any, t: Any) -> None:
    worker = t.Worker(client, "default", "")
    await worker.introduce([ComponentInfo(id="echo")])
    run_id = await client.begin(t.one())
    task = await worker.next()
    answer = await client.heartbeat(task, "named later")
    await client.answer(task, "done")

    assert answer.status == NUMBERS["TASK_STATUS_IN_PROGRESS"]
    assert await client.outputs(run_id) == ["done"]
    worker.stream.cancel()
