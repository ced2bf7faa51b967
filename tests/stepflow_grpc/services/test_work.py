"""The fast path from the server's side: whatever a worker says, and wherever its stream breaks, each step ends once."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from stepflow.engine import Engine
from stepflow.errors import StoreUnavailableError
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Succeeded
from stepflow.stores.memory import MemoryBackend
from stepflow_grpc import frames
from stepflow_grpc.frames import Begun, FromServer, FromWorker, Given, Hello, Reply
from stepflow_grpc.messages import WORK_PACKAGE, Frame, methods
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.server import Server
from stepflow_grpc.services import work

pytestmark = pytest.mark.anyio

FLOW: Any = {"steps": [{"id": "s", "component": "/w/echo", "input": {"$input": "$"}}], "output": {"$step": "s"}}
ONCE_MORE = {"action": "retry", "maxRetries": 1, "backoff": {"type": "constant", "delayMs": 1}}
RETRIED: Any = {**FLOW, "steps": [{**FLOW["steps"][0], "onError": ONCE_MORE}]}
ROUTES: dict[str, Json] = {"/w": [{"plugin": "workers"}]}
BROKEN = Failed(ErrorCode.COMPONENT_FAILED, "broken")


def make_engine(store: Any = None) -> Engine:
    return Engine(plugins={"workers": QueuePlugin(name="workers", queue="default")}, routes=ROUTES, store=store)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with make_engine() as opened:
        yield opened


class Voice:
    """A worker that says what the test says."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.given: dict[int, Given] = {}  # by the item
        self.recorded: list[str] = []
        self.again: list[str] = []
        self.gone: list[str] = []

    async def say(self, **what: Any) -> None:
        await self.call.write(frames.frame(FromWorker(**what)))

    async def hear(self) -> FromServer:
        async with asyncio.timeout(60):
            message = await self.call.read()
        if message is grpc.aio.EOF:
            raise AssertionError(f"the stream has ended: {await self.call.code()}")
        said = frames.from_server(message)
        self.given.update({each.task.item: each for each in said.tasks})
        self.recorded += [each if isinstance(each, str) else f"{each.id} {each.attempt}" for each in said.recorded]
        self.again += said.again
        self.gone += [each.id for each in said.gone]
        return said

    async def until_given(self, count: int) -> list[Given]:
        while len(self.given) < count:
            await self.hear()
        return [self.given[item] for item in sorted(self.given)]

    async def until_recorded(self, *tasks: Given) -> None:
        while not {each.id for each in tasks} <= set(self.recorded):
            await self.hear()

    async def status(self) -> tuple[str, str]:
        """How the stream ended."""
        with suppress(grpc.aio.AioRpcError):
            async with asyncio.timeout(60):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
        return (await self.call.code()).name, await self.call.details()


@asynccontextmanager
async def stream(port: int) -> AsyncIterator[Voice]:
    method = methods("WorkService", WORK_PACKAGE)["Connect"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        open = channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)
        voice = Voice(open())
        try:
            yield voice
        finally:
            voice.call.cancel()


@asynccontextmanager
async def connected(port: int, worker_id: str = "w1", *, credit: int = 0) -> AsyncIterator[Voice]:
    async with stream(port) as voice:
        hello = Hello(worker_id=worker_id, queue="default", components=[ComponentInfo(id="echo")])
        await voice.say(hello=hello, credit=credit)
        welcome = (await voice.hear()).welcome
        assert welcome is not None
        yield voice


def reply(given: Given, outcome: Outcome | None = None, **changes: Any) -> Reply:
    task = given.task
    facts = {"id": given.id, "outcome": outcome or Succeeded(task.input), "attempt": task.attempt}
    return Reply(**(facts | {"run_id": task.run_id, "item": task.item, "step": task.step} | changes))


async def outputs(run: Any) -> list[Any]:
    async with asyncio.timeout(60):
        return [result.output async for result in run.results()]


async def test_a_worker_is_sent_what_it_has_credit_for(engine: Engine, server: Server) -> None:
    async with connected(server.port, credit=2) as worker, connected(server.port, "w2") as other:
        await engine.submit(FLOW, list(range(5)), max_concurrency=5)
        await worker.until_given(2)

        await worker.say(credit=2)
        await worker.until_given(4)
        await worker.say(credit=-1)
        await other.say(credit=3)
        await other.until_given(1)

        assert (sorted(worker.given), list(other.given)) == ([0, 1, 2, 3], [4])


async def test_what_is_declined_goes_to_another_at_once(engine: Engine, server: Server) -> None:
    async with connected(server.port, credit=1) as worker, connected(server.port, "w2") as other:
        run = await engine.submit(FLOW, [1])
        (task,) = await worker.until_given(1)
        await other.say(credit=1)

        await worker.say(declined=[task.id])
        (again,) = await other.until_given(1)
        await other.say(answers=[reply(again)])

        assert (again.id, again.task.attempt) == (task.id, 1)
        assert await outputs(run) == [1]


async def test_answers_that_come_twice_and_out_of_order_count_once(engine: Engine, server: Server) -> None:
    async with connected(server.port, credit=3) as worker:
        run = await engine.submit(FLOW, [0, 1, 2])
        tasks = await worker.until_given(3)
        answers = [reply(task) for task in reversed(tasks)]

        await worker.say(answers=[*answers, *answers])
        await worker.say(answers=[reply(task, BROKEN) for task in tasks])
        await worker.until_recorded(*tasks)

        assert await outputs(run) == [0, 1, 2]


async def test_an_answer_is_acknowledged_once_its_result_is_stored(tmp_path: Any) -> None:
    async with (
        make_engine(tmp_path / "runs.db") as engine,
        Server(engine, port=0) as server,
        connected(server.port, credit=1) as worker,
    ):
        run = await engine.submit(FLOW, ["kept"])
        (task,) = await worker.until_given(1)
        await worker.say(answers=[reply(task)])
        await worker.until_recorded(task)

        (stored,) = await engine.backend.runs.results(run.id)
        assert stored.output == "kept"


async def test_a_receipt_names_the_attempt(engine: Engine, server: Server) -> None:
    async with connected(server.port, credit=2) as worker:
        run = await engine.submit(RETRIED, [1])
        (first,) = await worker.until_given(1)
        await worker.say(answers=[reply(first, BROKEN)])
        await worker.until_recorded(first)
        worker.given.clear()
        (second,) = await worker.until_given(1)
        await worker.say(answers=[reply(second)])
        while len(worker.recorded) < 2:
            await worker.hear()

        assert worker.recorded == [first.id, f"{first.id} 2"]
        assert await outputs(run) == [1]


async def test_an_answer_to_a_task_of_another_engine_is_acknowledged_once_that_engine_can_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "SWEEP_S", 1e6)
    store = MemoryBackend(shared=True)
    async with (
        make_engine(store) as owner,
        Server(owner, port=0),
        make_engine(store) as other,
        Server(other, port=0) as server,
        connected(server.port, credit=1) as worker,
    ):
        run = await owner.submit(FLOW, ["theirs"])
        (task,) = await worker.until_given(1)
        await worker.say(answers=[reply(task)])
        await worker.until_recorded(task)

        assert await outputs(run) == ["theirs"]


async def test_what_is_recorded_while_a_frame_is_being_written_is_said_after_it(
    engine: Engine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LATE_S", 0.0)
    said: asyncio.Queue[Any] = asyncio.Queue()

    async def frames_of_the_worker() -> AsyncIterator[Any]:
        while True:
            yield frames.frame(await said.get())

    hello = Hello(worker_id="w1", queue="default", components=[ComponentInfo(id="echo")])
    said.put_nowait(FromWorker(hello=hello, credit=1))
    written = server._connections.Connect(frames_of_the_worker())
    async with asyncio.timeout(60):
        await anext(written)
        run = await engine.submit(FLOW, [1])
        (task,) = frames.from_server(await anext(written)).tasks  # whoever writes it does not come back for the next

        said.put_nowait(FromWorker(answers=[reply(task)]))
        await run.wait()
        for _ in range(50):
            await asyncio.sleep(0)

        assert frames.from_server(await anext(written)).recorded == [task.id]
    await written.aclose()


async def test_an_answer_that_nobody_waits_for_may_be_forgotten(engine: Engine, server: Server) -> None:
    async with connected(server.port, credit=1) as worker:
        run = await engine.submit(FLOW, [1])
        (task,) = await worker.until_given(1)
        await run.cancel()

        await worker.say(answers=[reply(task), reply(task, run_id="0197" + run.id[4:])])

        await worker.until_recorded(task)


async def test_an_answer_that_the_store_does_not_take_now_is_asked_for_again(
    engine: Engine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*facts: Any, **more: Any) -> bool:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(engine, "answer", unavailable)
    async with connected(server.port, credit=1) as worker:
        await engine.submit(FLOW, [1])
        (task,) = await worker.until_given(1)
        await worker.say(answers=[reply(task, id="t", item=9)])
        while not worker.again:
            await worker.hear()

        assert worker.again == ["t"]


async def test_who_says_that_it_began_what_nobody_wants_is_told_to_stop(engine: Engine, server: Server) -> None:
    async with connected(server.port, credit=1) as worker:
        run = await engine.submit(FLOW, [1])
        (task,) = await worker.until_given(1)
        await run.cancel()
        await run.wait()

        await worker.say(begun=[Begun(task.id, 1)])
        while not worker.gone:
            await worker.hear()

        assert worker.gone == [task.id]


@pytest.mark.parametrize("cut", range(5))
async def test_wherever_a_stream_breaks_each_step_ends_once(engine: Engine, server: Server, cut: int) -> None:
    async with connected(server.port, "lost") as lost:
        run = await engine.submit(FLOW, [0, 1, 2])
        says: list[dict[str, Any]] = [{"credit": 3}]
        if cut:
            await lost.say(**says[0])
            tasks = await lost.until_given(3)
            says += [
                {"begun": [Begun(tasks[0].id, 1)]},
                {"answers": [reply(tasks[0])]},
                {"declined": [tasks[1].id], "credit": -1},
            ]
            for said in says[1:cut]:
                await lost.say(**said)
        kept = dict(lost.given)

    async with connected(server.port, "lost" if cut == 2 else "next", credit=3) as after:
        await after.say(answers=[reply(kept[0])] if cut >= 2 else [])
        while len({*after.given, *after.recorded}) < (2 if cut >= 2 else 3):
            await after.hear()
        await after.say(answers=[reply(task) for task in after.given.values()])

        assert await outputs(run) == [0, 1, 2]
        assert all(task.task.attempt == 1 for task in after.given.values())


GARBAGE = [
    b"",
    b"\xff\xfe",
    b"[]",
    b"{",
    b'{"hello": 1}',
    b'{"hello": {"worker_id": 1, "queue": "default"}}',
    b'{"answers": [["t", 1]]}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("bytes", GARBAGE)
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_frame_that_is_none_is_refused_and_the_server_goes_on(
    engine: Engine, server: Server, bytes: bytes, is_first: bool
) -> None:
    if is_first:
        async with stream(server.port) as voice:
            await voice.call.write(Frame(json=bytes))
            assert (await voice.status())[0] == "INVALID_ARGUMENT"
    else:
        async with connected(server.port) as voice:
            await voice.call.write(Frame(json=bytes))
            assert (await voice.status())[0] == "INVALID_ARGUMENT"

    async with connected(server.port, credit=1) as worker:
        run = await engine.submit(FLOW, ["alive"])
        await worker.say(answers=[reply(task) for task in await worker.until_given(1)])
        assert await outputs(run) == ["alive"]


async def test_frames_with_bytes_changed_harm_nobody(engine: Engine, server: Server) -> None:
    chance = random.Random(7)
    async with connected(server.port, credit=1) as worker:
        run = await engine.submit(FLOW, [{"a": 1}])
        (task,) = await worker.until_given(1)
        answer = reply(task, id="t", item=9)
        whole = frames.frame(FromWorker(begun=[Begun("t", 1)], answers=[answer])).json

        for _ in range(40):
            changed = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            async with connected(server.port, "fuzz") as voice:
                await voice.call.write(Frame(json=bytes(changed)))
                await voice.call.done_writing()
                assert (await voice.status())[0] in ("INVALID_ARGUMENT", "OK")
        await worker.say(answers=[reply(task)])

        assert await outputs(run) == [{"a": 1}]


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (Hello(worker_id="", queue="default"), "INVALID_ARGUMENT"),
        (Hello(worker_id="w", queue=""), "INVALID_ARGUMENT"),
        (Hello(worker_id="w", queue="nowhere"), "NOT_FOUND"),
        (Hello(worker_id="w", queue="default", version=99), "UNIMPLEMENTED"),
    ],
)
async def test_a_hello_that_can_not_be_is_refused(server: Server, hello: Hello, code: str) -> None:
    async with stream(server.port) as voice:
        await voice.say(hello=hello)

        assert (await voice.status())[0] == code


async def test_large_inputs_come_in_frames_of_their_own(engine: Engine, server: Server) -> None:
    large = "x" * (3 * 1024 * 1024 // 2)
    async with connected(server.port, credit=3) as worker:
        run = await engine.submit(FLOW, [large + str(n) for n in range(3)])
        tasks = await worker.until_given(3)
        await worker.say(answers=[reply(task, Succeeded(len(str(task.task.input)))) for task in tasks])

        assert await outputs(run) == [len(large) + 1] * 3


async def test_an_input_that_no_worker_takes_fails_its_step_with_the_remedy_and_keeps_no_slot(
    engine: Engine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LONGEST_TASK", 3 * 1024 * 1024)
    async with connected(server.port, credit=1) as worker:
        run = await engine.submit(FLOW, ["x" * (3 * 1024 * 1024), "short"], max_concurrency=1)
        (task,) = await worker.until_given(1)
        await worker.say(answers=[reply(task)])
        async with asyncio.timeout(60):
            refused, done = [result async for result in run.results()]

        assert (task.task.input, done.output) == ("short", "short")
        assert refused.error is not None
        assert (refused.error.code, refused.error.may_retry) == (ErrorCode.INVALID_INPUT, False)
        assert refused.error.message == (
            "the input of step 's' is too large for a worker: 3.0 MiB of JSON, 3 MiB can be sent; "
            "put the value into a blob and pass its id"
        )
