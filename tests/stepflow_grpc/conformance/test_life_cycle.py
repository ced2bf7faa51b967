"""Checklist 31–50: claims, heartbeats, answers, retries and timeouts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import grpc.aio
import pytest

from stepflow.execution.options import RecoverySettings
from stepflow.records import ComponentInfo
from stepflow.stores.memory import MemoryBackend
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.server import Server

pytestmark = pytest.mark.anyio

IN_PROGRESS, ALREADY_CLAIMED = NUMBERS["TASK_STATUS_IN_PROGRESS"], NUMBERS["TASK_STATUS_ALREADY_CLAIMED"]
NOBODY = "11111111-1111-1111-1111-111111111111"


async def test_31_the_first_heartbeat_claims(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        task = await worker.next()
        answers = [await worker.claim(task) for _ in range(2)]
        await client.answer(task, 1)
        await client.results(run_id)

    assert [(answer.status, answer.should_abort) for answer in answers] == [(IN_PROGRESS, False)] * 2


async def test_32_a_claim_of_another_worker_is_told_to_stop(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        task = await worker.next()
        await worker.claim(task)
        other = await client.heartbeat(task, "other")
        await client.answer(task, 1)
        await client.results(run_id)

    assert (other.status, other.should_abort) == (ALREADY_CLAIMED, True)


async def test_33_a_heartbeat_without_a_worker_is_refused(client: Any) -> None:
    refused = await client.refused("OrchestratorService", "TaskHeartbeat", task_id="t")

    assert refused == "INVALID_ARGUMENT"


@pytest.mark.parametrize("fields", [{}, {"run_id": NOBODY}])
async def test_34_a_heartbeat_for_an_unknown_task_is_not_found(client: Any, fields: Any) -> None:
    asked = {"task_id": "t", "worker_id": "w", **fields}

    assert await client.refused("OrchestratorService", "TaskHeartbeat", **asked) == "NOT_FOUND"


async def test_35_while_a_run_is_on_the_way_to_an_engine_its_tasks_are_unavailable(t: Any, connect: Any) -> None:
    store = MemoryBackend(shared=True)
    passive = RecoverySettings(enabled=False)
    async with t.make_engine(store=store) as owner, Server(owner, port=0) as served, connect(served.port) as calls:
        worker = t.Worker(calls, "default", "w")
        await worker.introduce([])
        run_id = await calls.begin(t.one("/idle/echo"))
    async with (
        t.make_engine(store=store, recovery=passive) as heir,
        Server(heir, port=0) as served,
        connect(served.port) as calls,
    ):
        asked = {"task_id": "t", "worker_id": "w", "run_id": run_id}

        assert await calls.refused("OrchestratorService", "TaskHeartbeat", **asked) == "UNAVAILABLE"


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": {"b": [1.5, None, True]}}])
async def test_36_an_answer_completes_the_step_with_exactly_its_value(
    client: Any, t: Any, pull: Any, value: Any
) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        await worker.do(value)

        assert await client.outputs(run_id) == [value]


async def test_37_an_answer_needs_no_claim(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        await client.answer(await worker.next(), "unclaimed")

        assert await client.outputs(run_id) == ["unclaimed"]


async def test_38_a_second_answer_is_not_found(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        task = await worker.do("first")
        outputs = await client.outputs(run_id)
        late = await client.refused("OrchestratorService", "CompleteTask", t.answer_to(task, "second"))

    assert outputs == ["first"]
    assert late == "NOT_FOUND"
    assert await client.outputs(run_id) == ["first"]


async def test_39_an_answer_without_a_result_or_output_is_refused(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        task = await worker.next()
        bare = new("CompleteTaskRequest", task_id=task.task_id)
        hollow = new("CompleteTaskRequest", task_id=task.task_id)
        hollow.response.SetInParent()
        refused = [await client.refused("OrchestratorService", "CompleteTask", each) for each in (bare, hollow)]
        await client.answer(task, None)

        assert refused == ["INVALID_ARGUMENT"] * 2
        assert await client.outputs(run_id) == [None]


async def test_40_a_failures_code_and_message_are_told(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        await worker.do(t.failed("INVALID_INPUT", "no such thing"))
        (result,) = await client.results(run_id)
        (step,) = (await client("RunsService", "GetRun", run_id=run_id)).steps

    for told in (result, step):
        assert (told.error_code, told.error_message) == (t.code("INVALID_INPUT"), "no such thing")


@pytest.mark.parametrize("name", ["TIMEOUT", "UNREACHABLE"])
async def test_41_failures_of_the_way_are_retried(client: Any, t: Any, pull: Any, name: str) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        tries = [(await worker.do(t.failed(name))).execute.attempt for _ in range(4)]
        (result,) = await client.results(run_id)

    assert tries == [1, 2, 3, 4]
    assert result.error_code == t.code(name)


@pytest.mark.parametrize("name", ["COMPONENT_FAILED", "RESOURCE_UNAVAILABLE"])
async def test_42_failures_of_components_are_retried_only_where_the_step_says_so(
    client: Any, t: Any, pull: Any, name: str
) -> None:
    on_error = {"action": "retry", "backoff": {"type": "constant", "delayMs": 1}}
    async with pull() as worker:
        plain = await client.begin(t.one())
        await worker.do(t.failed(name))
        (result,) = await client.results(plain)
        retried = await client.begin(t.one(onError=on_error))
        tries = [(await worker.do(t.failed(name))).execute.attempt for _ in range(4)]
        (again,) = await client.results(retried)

    assert result.error_code == again.error_code == t.code(name)
    assert tries == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("number", "name"),
    [(NUMBERS[f"TASK_ERROR_CODE_{name}"], name) for name in ("INVALID_INPUT", "WORKER_ERROR", "UNSPECIFIED")]
    + [(99, "WORKER_ERROR")],
)
async def test_43_other_failures_are_final_and_unknown_ones_the_workers(
    client: Any, t: Any, pull: Any, number: int, name: str
) -> None:
    on_error = {"action": "retry", "maxRetries": 3, "backoff": {"type": "constant", "delayMs": 1}}
    async with pull() as worker:
        run_id = await client.begin(t.one(onError=on_error))
        task = await worker.next()
        request = t.answer_to(task, t.failed("INVALID_INPUT"))
        request.error.code = number
        await client("OrchestratorService", "CompleteTask", request)
        (result,) = await client.results(run_id)

    assert result.error_code == t.code(name)


async def test_44_a_default_stands_in_for_a_failure(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one(onError={"action": "useDefault", "defaultValue": {"n": 0}}))
        await worker.do(t.failed("COMPONENT_FAILED"))

        assert await client.outputs(run_id) == [{"n": 0}]


@asynccontextmanager
async def timed_out(client: Any, t: Any, pull: Any) -> AsyncIterator[tuple[str, Any, Any]]:
    """A run, its task as a worker has it that does not claim it, and the retry as another worker has it."""
    async with pull("hasty", "one") as one, pull("hasty", "two") as two:
        run_id = await client.begin(t.one("/hasty/echo"))
        tasks = []
        waiting = {asyncio.ensure_future(each.next()) for each in (one, two)}
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=60)
            tasks += [each.result() for each in done]
        yield run_id, *tasks


async def test_45_what_nobody_claims_in_time_is_timed_out_and_retried(client: Any, t: Any, pull: Any) -> None:
    async with timed_out(client, t, pull) as (run_id, first, second):
        await client.answer(second, "done")

        assert (first.execute.attempt, second.execute.attempt) == (1, 2)
        assert await client.outputs(run_id) == ["done"]


async def test_47_an_execution_timeout_holds_despite_heartbeats(client: Any, t: Any, pull: Any) -> None:
    async with pull("short") as worker:
        run_id = await client.begin(t.one("/short/echo"))
        first = await worker.next()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beats, worker, first)
            second = await worker.next()
            tasks.cancel_scope.cancel()
        await worker.claim(second)
        await client.answer(second, "done")

        assert second.execute.attempt == 2
        assert await client.outputs(run_id) == ["done"]


async def beats(worker: Any, task: Any) -> None:
    while True:
        with suppress(grpc.aio.AioRpcError):
            await worker.claim(task)
        await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_46_a_worker_that_claimed_and_fell_silent_is_dead_after_5_to_10_s(client: Any, t: Any, pull: Any) -> None:
    async with pull("default", "silent") as worker:
        run_id = await client.begin(t.one())
        await worker.claim(await worker.next())
        async with pull("default", "other") as other:
            again = await other.do("rescued")

            assert again.execute.attempt == 2
            assert await client.outputs(run_id) == ["rescued"]


@pytest.mark.slow
async def test_48_a_worker_that_is_heard_of_every_second_is_never_dead(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        task = await worker.next()
        answers = []
        for _ in range(12):
            answers.append((await worker.claim(task)).status)
            await asyncio.sleep(1)
        await client.answer(task, "alive")
        events = await client.all("RunsService", "GetRunEvents", run_id=run_id)

        assert await client.outputs(run_id) == ["alive"]
    assert set(answers) == {IN_PROGRESS}
    assert [event.step_started.attempt for event in events if event.HasField("step_started")] == [1]


async def test_49_a_late_result_ends_the_retry(client: Any, t: Any, pull: Any) -> None:
    async with timed_out(client, t, pull) as (run_id, first, _):
        await client.answer(first, "late")

        assert await client.outputs(run_id) == ["late"]


async def test_50_what_a_lost_stream_had_is_not_lost(client: Any, t: Any, pull: Any) -> None:
    async with pull("default", "lost") as lost:
        run_id = await client.begin(t.one())
        await lost.next()
    async with pull("default", "next") as worker:
        again = await worker.do("kept")

        assert again.execute.attempt == 1
        assert await client.outputs(run_id) == ["kept"]


async def test_a_component_list_as_an_answer_is_its_output(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        task = await worker.next()
        request = new("CompleteTaskRequest", task_id=task.task_id)
        request.list_components.components.add(component_id="c")
        await client("OrchestratorService", "CompleteTask", request)
        (output,) = await client.outputs(run_id)

    assert output[0]["id"] == "c"


async def test_cancelling_a_run_leaves_late_answers_without_effect(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await client.begin(t.one())
        task = await worker.next()
        await worker.claim(task)
        await client("RunsService", "CancelRun", run_id=run_id)
        late = await client.refused("OrchestratorService", "CompleteTask", t.answer_to(task, 1))
        beat = await client.refused("OrchestratorService", "TaskHeartbeat", task_id=task.task_id, worker_id="w1")
        summary = (await client("RunsService", "GetRun", run_id=run_id)).summary

    assert (late, beat) == ("NOT_FOUND", "NOT_FOUND")
    assert summary.status == t.status("CANCELLED")


async def test_an_answer_is_acknowledged_when_it_is_stored(
    t: Any, connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with t.make_engine(store=store) as engine, Server(engine, port=0) as served, connect(served.port) as calls:
        worker = t.Worker(calls, "default", "w")
        await worker.introduce([ComponentInfo(id="echo")])
        run_id = await calls.begin(t.one())
        task = await worker.next()
        reached, opened = anyio.Event(), anyio.Event()
        commit = engine.backend.journal.commit

        async def hold(writes: Any) -> Any:
            reached.set()
            await opened.wait()
            return await commit(writes)

        monkeypatch.setattr(engine.backend.journal, "commit", hold)
        answering = asyncio.ensure_future(calls.answer(task, "kept"))
        await reached.wait()
        await calls("HealthService", "HealthCheck")
        was_acknowledged = answering.done()
        opened.set()
        await answering

        assert not was_acknowledged
        assert await calls.outputs(run_id) == ["kept"]
        worker.stream.cancel()
