"""Checklist 23–30: what stands in the assignment of a task."""

import re
from typing import Any

import pytest

from stepflow.records import ComponentInfo
from stepflow_grpc.messages import new
from stepflow_grpc.wire import from_value, to_value

pytestmark = pytest.mark.anyio

RETRIED = {"onError": {"action": "retry", "maxRetries": 2, "backoff": {"type": "constant", "delayMs": 1}}}


async def attempts(client: Any, t: Any, pull: Any) -> list[Any]:
    """The assignments of a task that fails twice and succeeds then."""
    async with pull() as worker:
        run_id = await client.begin(t.one(**RETRIED))
        tasks = [await worker.do(t.failed("COMPONENT_FAILED")) for _ in range(2)]
        tasks.append(await worker.do("done"))
        assert await client.outputs(run_id) == ["done"]
    return tasks


async def test_23_a_task_id_is_of_one_run_item_and_step_and_kept_across_retries(client: Any, t: Any, pull: Any) -> None:
    retried = await attempts(client, t, pull)
    two = {
        "steps": [{"id": id, "component": "/w/echo", "input": {"$input": "$"}} for id in ("a", "b")],
        "output": [{"$step": "a"}, {"$step": "b"}],
    }
    async with pull() as worker:
        runs = [await client.begin(two, [1, 2]) for _ in range(2)]
        ids = {(await worker.do(1)).task_id for _ in range(8)}
        for run_id in runs:
            await client.results(run_id)

    assert len({task.task_id for task in retried}) == 1
    assert len(ids) == 8


async def test_24_the_component_is_named_by_the_id_that_was_listed(client: Any, t: Any, pull: Any) -> None:
    async with pull("default", "w", ComponentInfo(id="the-id", path="/the/path")) as worker:
        run_id = await client.begin(t.one("/w/the/path"))
        task = await worker.do(1)
        await client.results(run_id)

    assert task.execute.component_id == "the-id"


async def test_25_the_input_is_always_there(client: Any, t: Any, pull: Any) -> None:
    flow = {"steps": [{"id": "s", "component": "/w/echo"}], "output": {"$step": "s"}}
    async with pull() as worker:
        run_id = await client.begin(flow)
        task = await worker.do(1)
        await client.results(run_id)

    assert task.execute.HasField("input")
    assert task.execute.input.WhichOneof("kind") == "null_value"


async def test_26_attempts_are_counted_from_1(client: Any, t: Any, pull: Any) -> None:
    assert [task.execute.attempt for task in await attempts(client, t, pull)] == [1, 2, 3]


async def test_27_heartbeats_are_wanted_every_second(client: Any, t: Any, pull: Any) -> None:
    assert {task.heartbeat_interval_secs for task in await attempts(client, t, pull)} == {1}


async def test_28_run_flow_step_and_trace_are_told(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        created = (await client.create(t.one())).summary
        task = await worker.do(1)
        await client.results(created.run_id)
    seen = task.execute.observability

    assert (seen.run_id, seen.flow_id, seen.step_id) == (created.run_id, created.flow_id, "s")
    assert re.fullmatch(r"[0-9a-f]{32}", seen.trace_id)
    assert re.fullmatch(r"[0-9a-f]{16}", seen.span_id)


async def test_29_captures_are_told_and_a_rest_has_its_slashes(client: Any, t: Any, pull: Any) -> None:
    async with pull("default", "w", ComponentInfo(id="rest", path="/u/{id}/{*rest}")) as worker:
        run_id = await client.begin(t.one("/w/u/a%20b/c/d/e"))
        task = await worker.do(1)
        await client.results(run_id)

    assert dict(task.execute.path_params) == {"id": "a%20b", "rest": "c/d/e"}


async def test_30_the_root_is_taken_back_during_the_task(client: Any, t: Any, pull: Any) -> None:
    inner = await client.store({"steps": [], "output": {"$input": "$"}})
    async with pull() as worker:
        run_id = await client.begin(t.one())
        task = await worker.next()
        root = task.context.root_run_id
        wanted = new("CreateRunRequest", flow_id=inner, input=[to_value(5)], wait=True)
        submitted = await client("OrchestratorService", "SubmitRun", run_request=wanted, root_run_id=root)
        got = await client("OrchestratorService", "GetRun", run_id=submitted.run_id, root_run_id=root)
        await client.answer(task, None)
        await client.results(run_id)

    assert root == run_id
    assert from_value(submitted.results[0].output) == 5
    assert got.run_id == submitted.run_id
