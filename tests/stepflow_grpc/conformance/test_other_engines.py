"""Claims, answers and sub-runs that come to an engine which does not drive the run, as behind a name of several."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest

from stepflow.execution.options import RecoverySettings
from stepflow.records import ComponentInfo
from stepflow_grpc.doors.guard import FixedTokens
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.server import Server
from stepflow_grpc.wire import from_value, to_value

pytestmark = pytest.mark.anyio

IN_PROGRESS, ALREADY_CLAIMED = NUMBERS["TASK_STATUS_IN_PROGRESS"], NUMBERS["TASK_STATUS_ALREADY_CLAIMED"]
PASSIVE = RecoverySettings(enabled=False)


@asynccontextmanager
async def open_site(
    t: Any, connect: Any, store: Any, tokens: FixedTokens | None = None, **options: Any
) -> AsyncIterator[Any]:
    """A client of a server of its own over the shared store."""
    async with (
        t.make_engine(store=store(), **options) as engine,
        Server(engine, port=0, tokens=tokens) as server,
        connect(server.port) as calls,
    ):
        calls.engine, calls.url = engine, f"127.0.0.1:{server.port}"
        yield calls


@pytest.fixture
async def owner(t: Any, connect: Any, shared_store: Any) -> AsyncIterator[Any]:
    async with open_site(t, connect, shared_store) as calls:
        yield calls


@pytest.fixture
async def other(t: Any, connect: Any, shared_store: Any) -> AsyncIterator[Any]:
    async with open_site(t, connect, shared_store) as calls:
        yield calls


async def working(t: Any, calls: Any, id: str = "w") -> Any:
    worker = t.Worker(calls, "default", id)
    await worker.introduce([ComponentInfo(id="echo")])
    return worker


async def test_a_claim_at_another_engine_is_one_at_the_engine_that_gave_the_task_out(
    t: Any, owner: Any, other: Any
) -> None:
    worker = await working(t, owner)
    run_id = await owner.begin(t.one())
    task = await worker.next()
    about = {"run_id": run_id}
    stranger = await other.heartbeat(task, "stranger", **about)
    mine = [await calls.heartbeat(task, "w", **about) for calls in (other, owner, other)]
    late = await other.heartbeat(task, "stranger", **about)
    await owner.answer(task, 1)

    assert [answer.status for answer in mine] == [IN_PROGRESS] * 3
    assert (stranger.status, late.status) == (ALREADY_CLAIMED, ALREADY_CLAIMED)
    assert await owner.outputs(run_id) == [1]
    worker.stream.cancel()


async def test_an_answer_at_another_engine_ends_the_step(t: Any, owner: Any, other: Any) -> None:
    worker = await working(t, owner)
    claimed, unclaimed = await owner.begin(t.one()), await owner.begin(t.one())
    task = await worker.next()
    await other.heartbeat(task, "w", run_id=claimed)
    await other.answer(task, "seen")
    await other.answer(await worker.next(), "not seen")

    assert await owner.outputs(claimed) == ["seen"]
    assert await owner.outputs(unclaimed) == ["not seen"]
    assert await other.refused("OrchestratorService", "CompleteTask", t.answer_to(task, 2)) == "NOT_FOUND"
    worker.stream.cancel()


async def test_a_worker_of_another_engine_may_call_the_owner(t: Any, owner: Any, other: Any) -> None:
    """The task goes to the other engine, since the owner has no worker, and the worker's calls to the owner."""
    worker = await working(t, other)
    introduced = await working(t, owner)
    introduced.stream.cancel()
    run_id = await owner.begin(t.one())
    task = await worker.next()
    statuses = [(await owner.heartbeat(task, "w", run_id=run_id)).status for _ in range(2)]
    await owner.answer(task, "by way of the owner")

    assert statuses == [IN_PROGRESS] * 2
    assert await other.outputs(run_id) == ["by way of the owner"]
    assert from_value(task.execute.input) == 1
    worker.stream.cancel()


async def test_an_answer_is_kept_while_nobody_drives_the_run(t: Any, connect: Any, shared_store: Any) -> None:
    async with open_site(t, connect, shared_store, recovery=PASSIVE) as other:
        async with open_site(t, connect, shared_store) as owner:
            worker = await working(t, owner)
            run_id = await owner.begin(t.one())
            task = await worker.next()
            await worker.claim(task)
        await other.answer(task, "kept")
        again = await working(t, other, "w2")
        await other.engine.recover()

        assert await other.outputs(run_id) == ["kept"]
        events = await other.all("RunsService", "GetRunEvents", run_id=run_id)
        assert [event.step_started.attempt for event in events if event.HasField("step_started")] == [1]
        again.stream.cancel()


async def test_a_worker_goes_on_with_a_task_whose_run_was_taken_over(t: Any, connect: Any, shared_store: Any) -> None:
    async with open_site(t, connect, shared_store, recovery=PASSIVE) as heir:
        async with open_site(t, connect, shared_store) as owner:
            worker = await working(t, owner)
            run_id = await owner.begin(t.one())
            task = await worker.next()
            await worker.claim(task)
        asked = {"task_id": task.task_id, "worker_id": "w", "run_id": run_id}
        between = await heir.refused("OrchestratorService", "TaskHeartbeat", **asked)
        waiting = await working(t, heir, "w")
        await heir.engine.recover()
        while not (claimed := await heard(heir, task, run_id)):
            await asyncio.sleep(0)
        stranger = await heir.heartbeat(task, "stranger", run_id=run_id)
        await heir.answer(task, "went on")

        assert between == "UNAVAILABLE"
        assert (claimed.status, stranger.status) == (IN_PROGRESS, ALREADY_CLAIMED)
        assert await heir.outputs(run_id) == ["went on"]
        waiting.stream.cancel()


async def heard(calls: Any, task: Any, run_id: str) -> Any | None:
    """The answer to a heartbeat; None: the run is on the way."""
    try:
        return await calls.heartbeat(task, "w", run_id=run_id)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return None
        raise


async def test_a_sub_run_is_submitted_at_the_owner_of_its_parent(t: Any, owner: Any, other: Any) -> None:
    flow_id = await owner.store(t.one("/here/double"))
    run_id = await owner.begin(t.one("/here/hang"), max_concurrency=1)
    wanted = new("CreateRunRequest", flow_id=flow_id, input=[to_value(4)], wait=True)
    request = new("OrchestratorSubmitRunRequest", run_request=wanted, subflow_key="k")
    named = (("stepflow-parent", f"{run_id}/0/0"),)
    first, second = [
        await calls("OrchestratorService", "SubmitRun", request, metadata=named) for calls in (other, owner)
    ]
    where = await other("TasksService", "GetOrchestratorForRun", run_id=run_id)
    wanted.wait = False
    later = new("OrchestratorSubmitRunRequest", run_request=wanted, subflow_key="later")
    begun = await other("OrchestratorService", "SubmitRun", later, metadata=named)
    asked = new("OrchestratorGetRunRequest", run_id=begun.run_id, wait=True, include_results=True)
    waited = await other("OrchestratorService", "GetRun", asked, metadata=named)

    assert first.run_id == second.run_id
    assert (first.parent_run_id, from_value(first.results[0].output)) == (run_id, 8)
    assert where.orchestrator_service_url == owner.url
    assert (begun.status, from_value(waited.results[0].output)) == (t.status("RUNNING"), 8)


async def test_an_unknown_task_is_not_found_at_any_engine(t: Any, owner: Any, other: Any) -> None:
    run_id = await owner.begin(t.one("/here/hang"))
    asked = {"task_id": "11111111-1111-1111-1111-111111111111", "worker_id": "w"}
    found = [
        await calls.refused("OrchestratorService", "TaskHeartbeat", **asked, **more)
        for calls in (owner, other)
        for more in ({}, {"run_id": run_id})
    ]

    assert found == ["NOT_FOUND"] * 4


async def test_many_answers_through_both_engines_are_all_recorded(t: Any, owner: Any, other: Any) -> None:
    worker = await working(t, owner)
    run_id = await owner.begin(t.one(), list(range(40)))

    async def do(task: Any, calls: Any) -> None:
        await calls.heartbeat(task, "w", run_id=run_id)
        await calls.answer(task, from_value(task.execute.input))

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(do, await worker.next(), (owner, other)[number % 2])

    assert await asyncio.wait_for(other.outputs(run_id), 60) == list(range(40))
    worker.stream.cancel()


async def test_the_owner_takes_an_answer_to_what_another_engine_has(t: Any, owner: Any, other: Any) -> None:
    """Though nobody knows where the worker is, which claimed nothing."""
    worker = await working(t, other)
    introduced = await working(t, owner)
    introduced.stream.cancel()
    run_id = await owner.begin(t.one())
    await owner.answer(await worker.next(), "at once")

    assert await owner.outputs(run_id) == ["at once"]
    worker.stream.cancel()


async def test_a_list_of_components_reaches_the_engine_that_asked(t: Any, owner: Any, other: Any) -> None:
    worker = t.Worker(owner, "default", "w")
    question = await worker.next()
    request = new("CompleteTaskRequest", task_id=question.task_id)
    request.list_components.components.add(component_id="told-elsewhere")
    claimed = await other.heartbeat(question, "w")
    await other("OrchestratorService", "CompleteTask", request)
    listed = (await owner("ComponentsService", "ListRegisteredComponents")).components

    assert claimed.status == IN_PROGRESS
    assert "told-elsewhere" in {entry.component_id for entry in listed}
    assert await other.refused("OrchestratorService", "CompleteTask", request) == "NOT_FOUND"
    worker.stream.cancel()


async def test_a_callers_token_is_shown_where_its_call_is_passed_on(t: Any, connect: Any, shared_store: Any) -> None:
    tokens = FixedTokens(["secret"])
    shown = (("authorization", "Bearer secret"),)
    async with (
        open_site(t, connect, shared_store, tokens) as owner,
        open_site(t, connect, shared_store, tokens, recovery=PASSIVE) as other,
    ):
        run = await owner.engine.submit(t.one("/here/hang"), [1])
        wanted = new("CreateRunRequest", flow_id=await owner.engine.store_flow(t.one("/here/double")), wait=True)
        wanted.input.append(to_value(4))
        request = new("OrchestratorSubmitRunRequest", run_request=wanted)
        named = (*shown, ("stepflow-parent", f"{run.id}/0/0"))
        below = await other("OrchestratorService", "SubmitRun", request, metadata=named)
        unnamed = await other.refused("OrchestratorService", "SubmitRun", request)

    assert from_value(below.results[0].output) == 8
    assert unnamed == "UNAUTHENTICATED"
