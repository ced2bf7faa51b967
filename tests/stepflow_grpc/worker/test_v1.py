"""What a worker says through `stepflow.v1`, to a server that follows a script."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stepflow.clock import SystemClock
from stepflow.components import Components
from stepflow.records import ErrorCode
from stepflow_grpc.doors.front import Front
from stepflow_grpc.doors.guard import Guard
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.refusals import CallError, Code
from stepflow_grpc.services.calls import service_of
from stepflow_grpc.wire import from_value, to_value
from stepflow_grpc.worker.heart import Heart
from stepflow_grpc.worker.worker import Worker

pytestmark = pytest.mark.anyio

RUN = "0191f7a0-0000-7000-8000-000000000001"
CLAIMED = NUMBERS["TASK_STATUS_ALREADY_CLAIMED"]


class Script:
    """Both services of a server, whose answers a test writes down; what is not written is the usual answer."""

    def __init__(self) -> None:
        self.url = ""
        self.says: asyncio.Queue[Any] = asyncio.Queue()
        self.pulls: list[Any] = []
        self.beats: list[Any] = []
        self.completions: list[Any] = []
        self.lists: list[Any] = []
        self.claims: deque[Any] = deque()  # answers to the next heartbeats: a status code, or a message
        self.takes: deque[Code] = deque()  # refusals of the next completions
        self.may_answer = asyncio.Event()  # to completions
        self.may_answer.set()
        self.pull_refusals: deque[Code] = deque()

    async def PullTasks(self, request: Any) -> AsyncIterator[Any]:
        self.pulls.append(request)
        if self.pull_refusals:
            raise CallError(self.pull_refusals.popleft(), "not now")
        while True:
            message = await self.says.get()
            if message is None:
                return
            yield message

    async def TaskHeartbeat(self, request: Any) -> Any:
        self.beats.append(request)
        answer = self.claims.popleft() if self.claims else new("TaskHeartbeatResponse", status=1)
        if isinstance(answer, Code):
            raise CallError(answer, "not now")
        return answer

    async def CompleteTask(self, request: Any) -> Any:
        if request.WhichOneof("result") == "list_components":
            self.lists.append(request)
            raise CallError(Code.NOT_FOUND, "asked too long ago")
        self.completions.append(request)
        refusal = self.takes.popleft() if self.takes else None
        await self.may_answer.wait()
        if refusal is not None:
            raise CallError(refusal, "not now")
        return new("CompleteTaskResponse")

    def task(self, id: str = "t1", component: str = "do", input: Any = 1, **fields: Any) -> Any:
        url = fields.pop("url", self.url)
        params = fields.pop("path_params", {})
        message: Any = new("TaskAssignment", task_id=id, heartbeat_interval_secs=1)
        message.context.orchestrator_service_url = url
        message.context.root_run_id = RUN
        message.execute.component_id = component
        to_value(input, message.execute.input)
        message.execute.attempt = fields.pop("attempt", 1)
        message.execute.path_params.update(params)
        message.execute.observability.run_id = RUN
        self.says.put_nowait(message)
        return message

    def question(self, id: str = "discovery-1") -> None:
        message: Any = new("TaskAssignment", task_id=id)
        message.list_components.SetInParent()
        message.context.orchestrator_service_url = self.url
        self.says.put_nowait(message)


@asynccontextmanager
async def listening(script: Script, port: int = 0) -> AsyncIterator[int]:
    guard = Guard([service_of(name, script) for name in ("TasksService", "OrchestratorService")], None)
    front = Front(SystemClock(), Limits(message_bytes=4 * 1024 * 1024), find=guard.find)
    bound = await front.open("127.0.0.1", port)
    script.url = f"127.0.0.1:{bound}"
    try:
        yield bound
    finally:
        await front.close()


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    made = Script()
    async with listening(made):
        yield made


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def working_for(script: Script, app: Components, **options: Any) -> AsyncIterator[Worker]:
    async with Worker(app, url=script.url, queue="q", grace_s=1.0, **options) as worker:
        async with asyncio.timeout(60):
            while not script.pulls:
                await asyncio.sleep(0.01)
        yield worker


@pytest.fixture
def at_work(quiet_heart: Any) -> Any:
    """A worker that is connected: `async with at_work(app, script) as worker`."""

    def open(app: Components, script: Script, **options: Any) -> Any:
        return working_for(script, app, **{"make_heart": quiet_heart, **options})

    return open


class Gate:
    """A component that says when it begins, and goes on when it may."""

    def __init__(self) -> None:
        self.app = Components()
        self.calls: list[Any] = []
        self.may_go_on = asyncio.Event()
        self.stopped = asyncio.Event()
        self.app.component("/do")(self.do)

    async def do(self, input: Any) -> Any:
        self.calls.append(input)
        try:
            await self.may_go_on.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise
        return input


@pytest.fixture
def gate() -> Gate:
    return Gate()


def double() -> Components:
    app = Components()
    app.component("/do")(lambda n: n * 2)
    return app


async def test_a_worker_pulls_by_its_queue_and_an_id_that_stays(at_work: Any, script: Script) -> None:
    async with at_work(double(), script, worker_id="w7"):
        script.task()
        await eventually(lambda: script.completions)

    assert {(pull.queue_name, pull.worker_id) for pull in script.pulls} == {("q", "w7")}
    assert {beat.worker_id for beat in script.beats} == {"w7"}


async def test_a_task_is_claimed_before_it_begins_and_answered_with_its_run(at_work: Any, script: Script) -> None:
    async with at_work(double(), script):
        script.task(input=21)
        await eventually(lambda: script.completions)

    (completion,) = script.completions
    assert (script.beats[0].task_id, script.beats[0].run_id) == ("t1", RUN)
    assert (completion.task_id, completion.run_id) == ("t1", RUN)
    assert from_value(completion.response.output) == 42


async def test_a_task_that_another_worker_has_does_not_begin(at_work: Any, script: Script, gate: Gate) -> None:
    script.claims.append(new("TaskHeartbeatResponse", should_abort=True, status=CLAIMED))
    async with at_work(gate.app, script, max_concurrent=1):
        script.task("theirs", input="theirs")
        script.task("ours", input="ours")
        await eventually(lambda: gate.calls)
        gate.may_go_on.set()

    assert gate.calls == ["ours"]
    assert [completion.task_id for completion in script.completions] == ["ours"]


async def test_a_claim_is_repeated_while_its_run_is_recovered_and_dropped_where_nobody_waits(
    at_work: Any, script: Script
) -> None:
    script.claims.extend([Code.UNAVAILABLE, Code.UNAVAILABLE, new("TaskHeartbeatResponse", status=1), Code.NOT_FOUND])
    async with at_work(double(), script, max_concurrent=1):
        script.task("recovered")
        script.task("gone")
        script.task("last")
        await eventually(lambda: len(script.completions) == 2)

    assert [completion.task_id for completion in script.completions] == ["recovered", "last"]


async def test_a_task_that_is_delivered_twice_is_done_once(at_work: Any, script: Script, gate: Gate) -> None:
    async with at_work(gate.app, script):
        script.task(input="first")
        await eventually(lambda: gate.calls)
        script.task(input="again", attempt=2)
        await eventually(lambda: len(script.beats) >= 2)
        gate.may_go_on.set()
        await eventually(lambda: script.completions)

    assert gate.calls == ["first"]
    assert len(script.completions) == 1


@pytest.mark.slow
async def test_a_task_that_another_worker_takes_over_is_stopped_without_an_answer(
    at_work: Any, script: Script, gate: Gate
) -> None:
    async with at_work(gate.app, script, make_heart=Heart):
        script.task()
        await eventually(lambda: gate.calls)
        script.claims.append(new("TaskHeartbeatResponse", should_abort=True, status=CLAIMED))
        async with asyncio.timeout(60):
            await gate.stopped.wait()

    assert script.completions == []


async def test_questions_are_answered_while_every_slot_is_busy(at_work: Any, script: Script, gate: Gate) -> None:
    async with at_work(gate.app, script, max_concurrent=1):
        script.task("t1")
        script.task("t2")
        await eventually(lambda: gate.calls)
        for number in range(3):
            script.question(f"discovery-{number}")
        await eventually(lambda: len(script.lists) == 3)
        gate.may_go_on.set()
        await eventually(lambda: len(script.completions) == 2)

    assert [each.task_id for each in script.lists] == ["discovery-0", "discovery-1", "discovery-2"]
    (component,) = script.lists[0].list_components.components
    assert (component.component_id, component.path) == ("do", "/do")


async def test_no_more_than_one_task_is_read_that_cannot_begin(at_work: Any, script: Script, gate: Gate) -> None:
    async with at_work(gate.app, script, max_concurrent=2):
        for number in range(20):
            script.task(f"t{number}", input=number)
        await eventually(lambda: len(gate.calls) == 2)
        claimed = sorted(beat.task_id for beat in script.beats)
        gate.may_go_on.set()
        await eventually(lambda: len(script.completions) == 20)

    assert claimed == ["t0", "t1"]


async def test_an_answer_is_repeated_until_it_is_taken(at_work: Any, script: Script) -> None:
    script.takes.extend([Code.UNAVAILABLE, Code.UNAVAILABLE])
    async with at_work(double(), script):
        script.task()
        await eventually(lambda: len(script.completions) == 3)

    assert len(script.completions) == 3


async def test_an_answer_that_nobody_wants_is_dropped(at_work: Any, script: Script) -> None:
    script.takes.append(Code.NOT_FOUND)
    async with at_work(double(), script):
        script.task()
        await eventually(lambda: script.completions)

    assert len(script.completions) == 1


async def test_a_success_that_nobody_waited_for_answers_the_next_attempt(
    at_work: Any, script: Script, gate: Gate
) -> None:
    gate.may_go_on.set()
    script.takes.append(Code.NOT_FOUND)
    async with at_work(gate.app, script):
        script.task(attempt=1)
        await eventually(lambda: script.completions)
        script.task(attempt=2)
        await eventually(lambda: len(script.completions) == 2)

    assert gate.calls == [1]


async def test_an_attempt_that_comes_while_the_one_before_is_answered_is_answered_too(
    at_work: Any, script: Script, gate: Gate
) -> None:
    gate.may_go_on.set()
    script.may_answer.clear()
    script.takes.append(Code.NOT_FOUND)
    async with at_work(gate.app, script) as worker:
        script.task(attempt=1)
        await eventually(lambda: script.completions)
        script.task(attempt=2)
        await eventually(lambda: worker._desk._answers["t1"][0].task.attempt == 2)
        script.may_answer.set()
        await eventually(lambda: len(script.completions) == 2)

    assert gate.calls == [1]


async def test_null_is_sent_as_a_value(at_work: Any, script: Script) -> None:
    app = Components()
    app.component("/do")(lambda n: None)
    async with at_work(app, script):
        script.task()
        await eventually(lambda: script.completions)

    (completion,) = script.completions
    assert completion.WhichOneof("result") == "response"
    assert completion.response.HasField("output")
    assert completion.response.output.WhichOneof("kind") == "null_value"


async def test_an_output_that_no_message_takes_is_a_failure_that_says_what_to_do(at_work: Any, script: Script) -> None:
    app = Components()
    app.component("/do")(lambda n: "x" * 5_000_000)
    async with at_work(app, script):
        script.task()
        await eventually(lambda: script.completions)

    (completion,) = script.completions
    assert completion.error.code == NUMBERS["TASK_ERROR_CODE_WORKER_ERROR"]
    assert "ctx.put_blob" in completion.error.message


async def test_no_code_is_unspecified(at_work: Any, script: Script) -> None:
    app = Components()

    @app.component("/do")
    async def fail(n: int) -> None:
        raise ValueError("bad")

    async with at_work(app, script):
        script.task("t1", "do")
        script.task("t2", "unknown")
        await eventually(lambda: len(script.completions) == 2)

    codes = {each.task_id: each.error.code for each in script.completions}
    assert codes == {
        "t1": NUMBERS[f"TASK_ERROR_CODE_{ErrorCode.COMPONENT_FAILED}"],
        "t2": NUMBERS[f"TASK_ERROR_CODE_{ErrorCode.COMPONENT_NOT_FOUND}"],
    }


async def test_calls_go_to_the_task_s_own_address_with_or_without_a_scheme(at_work: Any, script: Script) -> None:
    other = Script()
    async with listening(other), at_work(double(), script):
        script.task("plain", url=other.url)
        script.task("with scheme", url=f"http://{other.url}")
        await eventually(lambda: len(other.completions) == 2)

    assert script.completions == []
    assert {beat.task_id for beat in other.beats} == {"plain", "with scheme"}


async def test_path_parameters_and_whole_floats_arrive_as_they_are_meant(at_work: Any, script: Script) -> None:
    app = Components()

    @app.component("/do/{name}", id="do")
    def do(n: int, name: str) -> list[Any]:
        return [n, name]

    async with at_work(app, script):
        script.task(input=1.0, path_params={"name": "a%20b"})
        await eventually(lambda: script.completions)

    assert from_value(script.completions[0].response.output) == [1, "a%20b"]


async def test_a_missing_queue_and_a_broken_stream_are_tried_again(at_work: Any, script: Script, gate: Gate) -> None:
    script.pull_refusals.extend([Code.NOT_FOUND, Code.UNAVAILABLE])
    async with at_work(gate.app, script) as worker:
        script.task()
        await eventually(lambda: gate.calls)
        script.says.put_nowait(None)
        await eventually(lambda: len(script.pulls) == 4)
        script.question()
        await eventually(lambda: worker.is_ready)
        gate.may_go_on.set()
        await eventually(lambda: script.completions)

    assert gate.calls == [1]


@pytest.mark.slow
async def test_a_blocked_event_loop_is_heard_of_all_the_same(at_work: Any, script: Script) -> None:
    app, heard = Components(), []

    @app.component("/do")
    async def block(n: int) -> int:
        time.sleep(2.5)  # noqa: ASYNC251
        heard.append(len(script.beats))
        return n

    async with at_work(app, script, make_heart=Heart):
        script.task()
        await eventually(lambda: script.completions)

    assert heard[0] >= 1
