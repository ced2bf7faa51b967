"""Workers that know only the protocol: they pull, claim, answer, and call back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from stepflow.config import open_engine
from stepflow.engine import Engine
from stepflow.protocols import Observer
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, RunId, Succeeded, Task
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.messages import NUMBERS, methods, new
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.queues.settings import Settings
from stepflow_grpc.server import Server
from stepflow_grpc.wire import complete, component_message, from_value, outcome_of, to_struct, to_value

pytestmark = pytest.mark.anyio

IN_PROGRESS, ALREADY_CLAIMED = NUMBERS["TASK_STATUS_IN_PROGRESS"], NUMBERS["TASK_STATUS_ALREADY_CLAIMED"]
COMPLETED, FAILED = NUMBERS["EXECUTION_STATUS_COMPLETED"], NUMBERS["EXECUTION_STATUS_FAILED"]
ONE = {"steps": [{"id": "s", "component": "/w/echo", "input": {"$input": "$"}}], "output": {"$step": "s"}}
ROUTES = {"/w": [{"plugin": "workers"}], "/gpu": [{"plugin": "workers", "queueName": "gpu"}]}


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
async def server(engine: Engine, limits: Limits) -> AsyncIterator[Server]:
    async with Server(engine, port=0, limits=limits) as opened:
        yield opened


class Watching(Observer):
    def __init__(self) -> None:
        self.progress: list[Json] = []

    def on_event(self, run_id: RunId, event: object) -> None:
        pass

    def on_progress(self, task: Task, progress: Json) -> None:
        self.progress.append(progress)


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
async def engine(settings: Settings, watching: Watching) -> AsyncIterator[Engine]:
    plugin = QueuePlugin(name="workers", queue="default", settings=settings)
    async with Engine(plugins={"workers": plugin}, routes=ROUTES, observers=[watching]) as opened:
        yield opened


class Puller:
    """One stream of a worker, by hand."""

    def __init__(self, calls: Any, queue: str, worker_id: str) -> None:
        method = methods("TasksService")["PullTasks"]
        stub = calls._channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
        self.calls = calls
        self.id = worker_id
        self.stream = stub(new("PullTasksRequest", queue_name=queue, worker_id=worker_id))

    async def next(self) -> Any:
        with anyio.fail_after(60):
            return await self.stream.read()

    async def introduce(self, *components: str) -> None:
        """Answer the question which components there are."""
        question = await self.next()
        assert question.WhichOneof("task") == "list_components"
        infos = [component_message(ComponentInfo(id=name)) for name in components]
        request = new("CompleteTaskRequest", task_id=question.task_id)
        request.list_components.components.extend(infos)
        await self.calls("OrchestratorService", "CompleteTask", request)

    async def claim(self, task: Any, **fields: Any) -> Any:
        asked = {"task_id": task.task_id, "worker_id": self.id, **fields}
        return await self.calls("OrchestratorService", "TaskHeartbeat", **asked)

    async def answer(self, task: Any, outcome: Outcome) -> None:
        request = complete(task.task_id, task.execute.observability.run_id, outcome)
        await self.calls("OrchestratorService", "CompleteTask", request)


@pytest.fixture
def pull(calls: Any) -> Callable[..., Any]:
    @asynccontextmanager
    async def open(queue: str = "default", worker_id: str = "w1", *components: str) -> AsyncIterator[Puller]:
        puller = Puller(calls, queue, worker_id)
        await puller.introduce(*(components or ("echo",)))
        try:
            yield puller
        finally:
            puller.stream.cancel()

    return open


async def submit(calls: Any, items: list[Any], flow: Any = ONE, **fields: Any) -> str:
    flow_id = (await calls("FlowsService", "StoreFlow", flow=to_struct(flow))).flow_id
    values = [to_value(item) for item in items]
    created = await calls("RunsService", "CreateRun", flow_id=flow_id, input=values, **fields)
    return created.summary.run_id


async def results(calls: Any, run_id: str) -> list[Any]:
    await calls("RunsService", "GetRun", run_id=run_id, wait=True)
    return list((await calls("RunsService", "GetRunItems", run_id=run_id)).results)


async def test_a_task_goes_through_a_worker_and_its_answer_is_the_result(calls: Any, pull: Any, server: Any) -> None:
    async with pull() as worker:
        run_id = await submit(calls, [{"a": [1, 2]}])
        task = await worker.next()
        claimed = await worker.claim(task)
        await worker.answer(task, Succeeded({"b": None}))
        (result,) = await results(calls, run_id)

    execute = task.execute
    assert (execute.component_id, execute.attempt, task.heartbeat_interval_secs) == ("echo", 1, 1)
    assert from_value(execute.input) == {"a": [1, 2]}
    assert (execute.observability.run_id, execute.observability.step_id) == (run_id, "s")
    assert len(execute.observability.trace_id) == 32
    assert len(execute.observability.span_id) == 16
    assert (task.context.orchestrator_service_url, task.context.root_run_id) == (f"127.0.0.1:{server.port}", run_id)
    assert (claimed.status, claimed.should_abort) == (IN_PROGRESS, False)
    assert from_value(result.output) == {"b": None}


async def test_a_route_leads_to_a_queue_of_its_own(calls: Any, pull: Any) -> None:
    flow = {"steps": [{"id": "s", "component": "/gpu/embed", "input": 1}], "output": {"$step": "s"}}
    async with pull("gpu", "g", "embed") as worker:
        run_id = await submit(calls, [None], flow)
        await worker.answer(await worker.next(), Succeeded("done"))

        assert from_value((await results(calls, run_id))[0].output) == "done"


async def test_what_a_heartbeat_says_of_progress_reaches_observers_from_the_one_that_has_the_task(
    calls: Any, pull: Any, watching: Watching
) -> None:
    async with pull() as worker:
        run_id = await submit(calls, [1])
        task = await worker.next()
        await worker.claim(task)
        await worker.claim(task, progress=0.0)
        await worker.claim(task, worker_id="other", progress=0.9)
        await worker.claim(task, status_message="half")
        await worker.claim(task, progress=0.5, status_message="half")
        await worker.answer(task, Succeeded(1))
        await results(calls, run_id)

    assert watching.progress == [0.0, "half", {"progress": 0.5, "status_message": "half"}]


async def test_another_worker_that_claims_is_told_to_stop(calls: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await submit(calls, [1])
        task = await worker.next()
        await worker.claim(task)
        other = await calls("OrchestratorService", "TaskHeartbeat", task_id=task.task_id, worker_id="other")
        again = await worker.claim(task)
        await worker.answer(task, Succeeded(1))
        await results(calls, run_id)
        late = await calls.refused("OrchestratorService", "CompleteTask", complete(task.task_id, run_id, Succeeded(2)))

    assert (other.status, other.should_abort) == (ALREADY_CLAIMED, True)
    assert again.status == IN_PROGRESS
    assert late[0] == "NOT_FOUND"


async def test_an_answer_without_a_claim_counts(calls: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await submit(calls, [1])
        await worker.answer(await worker.next(), Succeeded(5))

        assert from_value((await results(calls, run_id))[0].output) == 5


@pytest.mark.parametrize(
    ("service", "name", "fields", "code"),
    [
        ("OrchestratorService", "TaskHeartbeat", {"task_id": "t"}, "INVALID_ARGUMENT"),
        ("OrchestratorService", "TaskHeartbeat", {"task_id": "t", "worker_id": "w"}, "NOT_FOUND"),
        ("OrchestratorService", "CompleteTask", {"task_id": "t"}, "INVALID_ARGUMENT"),
        ("OrchestratorService", "SubmitRun", {}, "INVALID_ARGUMENT"),
        ("OrchestratorService", "GetRun", {"run_id": "0" * 32}, "NOT_FOUND"),
        ("OrchestratorService", "GetRun", {"run_id": "0" * 32, "root_run_id": ""}, "INVALID_ARGUMENT"),
        ("TasksService", "GetOrchestratorForRun", {"run_id": "x"}, "INVALID_ARGUMENT"),
        ("TasksService", "GetOrchestratorForRun", {"run_id": "0" * 32}, "NOT_FOUND"),
    ],
)
async def test_what_is_missing_or_unknown_is_refused(
    calls: Any, service: str, name: str, fields: dict[str, Any], code: str
) -> None:
    assert (await calls.refused(service, name, **fields))[0] == code


@pytest.mark.parametrize(("queue", "code"), [("", "INVALID_ARGUMENT"), ("nowhere", "NOT_FOUND")])
async def test_only_queues_that_something_leads_to_are_pulled_from(calls: Any, queue: str, code: str) -> None:
    puller = Puller(calls, queue, "w")

    with pytest.raises(Exception, match=code):
        await puller.next()


async def test_what_a_lost_stream_had_goes_to_another_worker(calls: Any, pull: Any) -> None:
    async with pull("default", "w2") as other:
        async with pull("default", "w1") as lost:
            run_id = await submit(calls, [1])
            first = asyncio.ensure_future(lost.next())
            second = asyncio.ensure_future(other.next())
            done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
            holder, waiting = (lost, second) if first in done else (other, first)
            task = done.pop().result()
            holder.stream.cancel()
            again = await waiting
        taker = other if holder is lost else lost
        await taker.calls("OrchestratorService", "CompleteTask", complete(again.task_id, run_id, Succeeded("kept")))

        assert again.task_id == task.task_id
        assert again.execute.attempt == 1
        assert from_value((await results(calls, run_id))[0].output) == "kept"


async def test_a_failure_is_told_with_its_code_and_retried_as_the_step_says(calls: Any, pull: Any) -> None:
    step = {
        **ONE["steps"][0],
        "onError": {"action": "retry", "maxRetries": 1, "backoff": {"type": "constant", "delayMs": 1}},
    }
    async with pull() as worker:
        run_id = await submit(calls, [1], {**ONE, "steps": [step]})
        tasks = []
        for _ in range(2):
            tasks.append(await worker.next())
            await worker.claim(tasks[-1])
            await worker.answer(tasks[-1], Failed(ErrorCode.COMPONENT_FAILED, "bad", data={"line": 3}))
        (result,) = await results(calls, run_id)

    assert [task.execute.attempt for task in tasks] == [1, 2]
    assert tasks[0].task_id == tasks[1].task_id
    assert (result.status, result.error_message) == (FAILED, "bad")


async def test_a_worker_submits_runs_and_waits_for_them(calls: Any, pull: Any) -> None:
    async with pull() as worker:
        run_id = await submit(calls, [1])
        task = await worker.next()
        flow = {"steps": [], "output": {"$input": "$"}}
        flow_id = (await calls("BlobService", "PutBlob", json_data=to_value(flow), blob_type="flow")).blob_id
        wanted = new("CreateRunRequest", flow_id=flow_id, input=[to_value(4), to_value("x")], wait=True)
        ask = {"run_request": wanted, "root_run_id": task.context.root_run_id, "subflow_key": "k"}
        status = await calls("OrchestratorService", "SubmitRun", **ask)
        same = await calls("OrchestratorService", "SubmitRun", **ask)
        got = await calls("OrchestratorService", "GetRun", run_id=status.run_id, wait=True, include_results=True)
        where = await calls("TasksService", "GetOrchestratorForRun", run_id=run_id)
        await worker.answer(task, Succeeded(None))
        await results(calls, run_id)
        ended = await calls.refused("OrchestratorService", "SubmitRun", **ask)

    assert status.status == COMPLETED
    assert [from_value(result.output) for result in status.results] == [4, "x"]
    assert same.run_id == status.run_id
    assert [from_value(result.output) for result in got.results] == [4, "x"]
    assert where.orchestrator_service_url == task.context.orchestrator_service_url
    assert ended[0] == "NOT_FOUND"


async def test_a_worker_that_lists_other_components_is_routed_to(calls: Any, pull: Any) -> None:
    flow = {"steps": [{"id": "s", "component": "/w/new", "input": 1}], "output": {"$step": "s"}}
    async with pull("default", "w1", "echo"):
        pass
    async with pull("default", "w2", "new") as worker:
        run_id = await submit(calls, [None], flow)
        await worker.answer(await worker.next(), Succeeded(1))

        assert from_value((await results(calls, run_id))[0].output) == 1


@pytest.mark.parametrize("limits", [Limits(message_bytes=100_000)])
async def test_an_answer_that_is_too_large_fails_its_step_at_once_and_says_whose_it_was(
    calls: Any, pull: Any, limits: Limits, caplog: pytest.LogCaptureFixture
) -> None:
    async with pull() as worker:
        run_id = await submit(calls, [1])
        task = await worker.next()
        await worker.claim(task)
        answer = complete(task.task_id, run_id, Succeeded("x" * 200_000))
        code, _ = await calls.refused("OrchestratorService", "CompleteTask", answer)
        (result,) = await results(calls, run_id)

    assert code == "RESOURCE_EXHAUSTED"
    assert result.error_code == NUMBERS["TASK_ERROR_CODE_WORKER_ERROR"]
    assert "the answer of worker 'w1' is too large: a message of 0.2 MiB, and 0.1 MiB are taken" in result.error_message
    assert "put large parts into blobs" in result.error_message
    assert f"task {task.task_id}: the answer of worker 'w1' is too large" in caplog.text


@pytest.mark.parametrize("limits", [Limits(message_bytes=100_000)])
async def test_an_answer_that_is_too_large_to_a_task_that_nobody_knows_is_logged(
    calls: Any, limits: Limits, caplog: pytest.LogCaptureFixture
) -> None:
    answer = complete("no-task", "", Succeeded("x" * 200_000))

    await calls.refused("OrchestratorService", "CompleteTask", answer)
    await calls.refused("BlobService", "PutBlob", raw_data=b"x" * 200_000, blob_type="binary")

    assert caplog.text.count("is too large") == 1
    assert "task no-task: the answer of worker '127.0.0.1" in caplog.text


async def test_a_late_list_of_components_is_not_found(calls: Any) -> None:
    request = new("CompleteTaskRequest", task_id="discovery-999")
    request.list_components.SetInParent()

    assert (await calls.refused("OrchestratorService", "CompleteTask", request))[0] == "NOT_FOUND"
    assert outcome_of(request) is not None


async def test_a_step_whose_queue_has_no_worker_waits_and_says_so(calls: Any, pull: Any, engine: Engine) -> None:
    async with pull():
        pass
    run_id = await submit(calls, [1])
    with anyio.fail_after(60):
        while "default" not in str(explained := await engine.explain(run_id)):
            await anyio.sleep(0.1)
    async with pull("default", "w2") as worker:
        await worker.answer(await worker.next(), Succeeded("late"))

        assert from_value((await results(calls, run_id))[0].output) == "late"
    assert "no worker serves queue 'default'" in str(explained)


@pytest.mark.parametrize("settings", [Settings(queue_timeout_s=0.05)])
async def test_a_written_queue_timeout_is_kept(calls: Any, pull: Any, engine: Engine) -> None:
    async with pull():
        pass
    step = {**ONE["steps"][0], "onError": {"action": "useDefault", "defaultValue": "gave up"}}
    run_id = await submit(calls, [1], {**ONE, "steps": [step]})

    with anyio.fail_after(60):
        (result,) = await results(calls, run_id)

    assert from_value(result.output) == "gave up"


async def test_a_configuration_names_the_queue(call: Any, tmp_path: Any) -> None:
    config = {
        "plugins": {"workers": {"type": "grpc", "queueName": "named", "queueTimeoutSecs": 300}},
        "routes": {"/w/{*component}": [{"plugin": "workers"}]},
    }
    async with open_engine(config) as engine, Server(engine, port=0) as server, call(server.port) as calls:
        puller = Puller(calls, "named", "w")
        await puller.introduce("echo")
        run_id = await submit(calls, [3])
        await puller.answer(await puller.next(), Succeeded(4))

        assert from_value((await results(calls, run_id))[0].output) == 4
        puller.stream.cancel()
