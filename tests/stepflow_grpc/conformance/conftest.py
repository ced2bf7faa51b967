"""One server for each file of the checklist, and workers and clients that know only the protocol."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import grpc
import grpc.aio
import msgspec
import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.execution.verdict import BackoffPolicy, RetrySettings
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Succeeded
from stepflow_grpc.messages import NUMBERS, methods, new
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.queues.settings import Settings
from stepflow_grpc.server import Server
from stepflow_grpc.wire import complete, component_message, from_value, to_struct, to_value

COMPONENTS = ("echo", "patterns", "list")
ROUTES: dict[str, Json] = {
    "/builtin": [{"plugin": "builtin"}],
    "/here": [{"plugin": "here"}],
    "/w": [{"plugin": "workers"}],
    "/gpu": [{"plugin": "workers", "queueName": "gpu"}],
    "/hasty": [{"plugin": "hasty"}],
    "/short": [{"plugin": "short"}],
    "/idle": [{"plugin": "workers", "queueName": "idle"}],
}
QUICK = RetrySettings(backoff=BackoffPolicy(type="constant", delay_ms=1))


def here() -> Components:
    components = Components()

    @components.component("/double")
    async def double(n: Any) -> Any:
        """Twice the number."""
        return n if n is None else n * 2

    @components.component("/hang")
    async def hang(n: Any) -> Any:
        await anyio.sleep_forever()

    return components


def make_engine(**options: Any) -> Engine:
    """An engine with every kind of queue that the checklist speaks of."""
    plugins = {
        "builtin": BuiltinPlugin(),
        "here": FunctionsPlugin(here()),
        "workers": QueuePlugin(name="workers", queue="default"),
        "hasty": QueuePlugin(name="hasty", queue="hasty", settings=Settings(queue_timeout_s=0.15)),
        "short": QueuePlugin(name="short", queue="short", settings=Settings(execution_timeout_s=1.0)),
    }
    return Engine(plugins=plugins, routes=ROUTES, retry=QUICK, **options)


class Client:
    """Every method of the protocol on one channel: `await client("RunsService", "GetRun", run_id=…)`."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def stub(self, service: str, name: str) -> tuple[Any, Any]:
        method = methods(service)[name]
        make = self.channel.unary_stream if method.streams else self.channel.unary_unary
        return make(method.path, method.request.SerializeToString, method.response.FromString), method.request

    async def __call__(
        self, service: str, name: str, request: Any = None, *, timeout: float = 120, metadata: Any = None, **fields: Any
    ) -> Any:
        stub, kind = self.stub(service, name)
        asked = new(kind.DESCRIPTOR.name, **fields) if request is None else request
        return await stub(asked, timeout=timeout, metadata=metadata)

    async def all(self, service: str, name: str, **fields: Any) -> list[Any]:
        stub, kind = self.stub(service, name)
        return [message async for message in stub(new(kind.DESCRIPTOR.name, **fields), timeout=60)]

    async def refused(self, service: str, name: str, request: Any = None, **fields: Any) -> str:
        """The status of a call that is not answered."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self(service, name, request, **fields)
        return str(raised.value.code().name)

    # What clients do

    async def store(self, flow: Any) -> str:
        stored = await self("FlowsService", "StoreFlow", flow=to_struct(flow))
        assert stored.stored
        return str(stored.flow_id)

    async def create(self, flow: Any, items: Sequence[Any] = (1,), **fields: Any) -> Any:
        values = [to_value(item) for item in items]
        return await self("RunsService", "CreateRun", flow_id=await self.store(flow), input=values, **fields)

    async def begin(self, flow: Any, items: Sequence[Any] = (1,), **fields: Any) -> str:
        return str((await self.create(flow, items, **fields)).summary.run_id)

    async def results(self, run_id: str) -> list[Any]:
        """Of a run, once it has ended."""
        await self("RunsService", "GetRun", run_id=run_id, wait=True)
        return list((await self("RunsService", "GetRunItems", run_id=run_id)).results)

    async def outputs(self, run_id: str) -> list[Json]:
        return [from_value(result.output) for result in await self.results(run_id)]

    # What workers do

    async def heartbeat(self, task: Any, worker_id: str, **fields: Any) -> Any:
        id = task if isinstance(task, str) else task.task_id
        return await self("OrchestratorService", "TaskHeartbeat", task_id=id, worker_id=worker_id, **fields)

    async def answer(self, task: Any, outcome: Outcome | Json) -> None:
        await self("OrchestratorService", "CompleteTask", answer_to(task, outcome))


def answer_to(task: Any, outcome: Outcome | Json) -> Any:
    given = outcome if isinstance(outcome, Succeeded | Failed) else Succeeded(outcome)
    return complete(task.task_id, task.execute.observability.run_id, given)


class Worker:
    """One stream of a worker, by hand."""

    def __init__(self, client: Client, queue: str, id: str) -> None:
        stub, _ = client.stub("TasksService", "PullTasks")
        self.client = client
        self.id = id
        self.stream = stub(new("PullTasksRequest", queue_name=queue, worker_id=id))

    async def next(self) -> Any:
        with anyio.fail_after(60):
            return await self.stream.read()

    async def introduce(self, components: Sequence[ComponentInfo]) -> Any:
        """Answer the question which components there are. Gives the question."""
        question = await self.next()
        request = new("CompleteTaskRequest", task_id=question.task_id)
        request.list_components.components.extend(component_message(info) for info in components)
        await self.client("OrchestratorService", "CompleteTask", request)
        return question

    async def claim(self, task: Any) -> Any:
        return await self.client.heartbeat(task, self.id)

    async def do(self, outcome: Outcome | Json) -> Any:
        """Take the next task, claim it, and answer. Gives the task."""
        task = await self.next()
        await self.claim(task)
        await self.client.answer(task, outcome)
        return task


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel)


@pytest.fixture
def connect() -> Any:
    """A client of any port."""
    return connected


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[Engine]:
    async with make_engine() as opened:
        yield opened


@pytest.fixture(scope="module")
async def server(engine: Engine) -> AsyncIterator[Server]:
    async with Server(engine, port=0) as opened:
        yield opened


@pytest.fixture(scope="module")
async def client(server: Server) -> AsyncIterator[Client]:
    async with connected(server.port) as made:
        yield made


@pytest.fixture
def pull(client: Client) -> Callable[..., Any]:
    """Workers that have introduced themselves."""

    @asynccontextmanager
    async def open(queue: str = "default", id: str = "w1", *components: str | ComponentInfo) -> AsyncIterator[Worker]:
        worker = Worker(client, queue, id)
        infos = [
            each if isinstance(each, ComponentInfo) else ComponentInfo(id=each) for each in components or ("echo",)
        ]
        await worker.introduce(infos)
        try:
            yield worker
        finally:
            worker.stream.cancel()

    return open


def one(component: str = "/w/echo", input: Json = {"$input": "$"}, **step: Json) -> dict[str, Json]:  # noqa: B006
    """A flow of one step."""
    return {"steps": [{"id": "s", "component": component, "input": input, **step}], "output": {"$step": "s"}}


def status(name: str) -> int:
    return NUMBERS[f"EXECUTION_STATUS_{name}"]


def code(name: str) -> int:
    return NUMBERS[f"TASK_ERROR_CODE_{name}"]


def failed(name: str, message: str = "bad") -> Failed:
    return Failed(ErrorCode(name), message)


class Tools:
    """What tests of the checklist share, since they can't import it."""

    one = staticmethod(one)
    status = staticmethod(status)
    code = staticmethod(code)
    failed = staticmethod(failed)
    answer_to = staticmethod(answer_to)
    make_engine = staticmethod(make_engine)
    Worker = Worker
    decode = staticmethod(msgspec.json.decode)


@pytest.fixture
def t() -> type[Tools]:
    return Tools
