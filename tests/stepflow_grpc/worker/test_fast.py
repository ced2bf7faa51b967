"""A worker on the fast path, against a real server: each task is done once, whatever breaks on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from stepflow.engine import Engine
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Succeeded, TaskId
from stepflow_grpc.address import Address
from stepflow_grpc.frames import Welcome
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.queues.records import WorkerReport
from stepflow_grpc.server import Server
from stepflow_grpc.worker.fast import FastLink
from stepflow_grpc.worker.link import Given, Link, LinkLostError, NotSpokenError

pytestmark = pytest.mark.anyio

FLOW: Any = {"steps": [{"id": "s", "component": "/w/echo", "input": {"$input": "$"}}], "output": {"$step": "s"}}
ROUTES: dict[str, Json] = {"/w": [{"plugin": "workers"}]}


def make_engine(store: Any = None) -> Engine:
    return Engine(plugins={"workers": QueuePlugin(name="workers", queue="default")}, routes=ROUTES, store=store)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with make_engine() as opened:
        yield opened


class BareDesk:
    """A worker of which the test says when a task ends."""

    def __init__(self, slots: int = 4, worker_id: str = "w1") -> None:
        self.worker_id = worker_id
        self.queue = "default"
        self.components: Sequence[ComponentInfo] = (ComponentInfo(id="echo"),)
        self.is_draining = False
        self.slots = slots
        self.links: list[FastLink] = []
        self.executed: list[TaskId] = []
        self.attempts: list[int] = []
        self.stopped: list[TaskId] = []
        self.does: Callable[[Given], Outcome | None] = lambda given: Succeeded(given.task.input)
        self._busy: dict[TaskId, Given] = {}
        self._kept: dict[TaskId, tuple[Given, Outcome]] = {}
        self._changed = asyncio.Event()

    @property
    def free(self) -> int:
        return 0 if self.is_draining else self.slots - len(self._busy)

    def report(self) -> WorkerReport:
        return WorkerReport(slots=self.slots, busy=len(self._busy))

    def has(self) -> list[TaskId]:
        return [*self._busy, *self._kept]

    def begin(self, given: Given, link: Link) -> bool:
        self._changed.set()
        self.attempts.append(given.task.attempt)
        if given.id in self._busy:
            return True
        if given.id in self._kept:
            link.answer(given, self._kept[given.id][1])
            return True
        if not self.free:
            return False
        self.executed.append(given.id)
        self._busy[given.id] = given
        asyncio.get_running_loop().call_soon(self._work, given)
        return True

    def begin_each(self, given: Sequence[Given], link: Link) -> list[TaskId]:
        return [each.id for each in given if not self.begin(each, link)]

    def _work(self, given: Given) -> None:
        outcome = self.does(given)
        if outcome is not None:
            self.end(given, outcome)

    def end(self, given: Given, outcome: Outcome) -> None:
        del self._busy[given.id]
        self._kept[given.id] = (given, outcome)
        for link in self.links:
            if link.is_live:
                link.answer(given, outcome)
                link.changed()

    @property
    def busy(self) -> list[Given]:
        return list(self._busy.values())

    def stop(self, task_id: TaskId, attempt: int) -> None:
        self.stopped.append(task_id)
        self._busy.pop(task_id, None)
        self._changed.set()

    def acknowledged(self, task_id: TaskId, attempt: int | None = None) -> None:
        self._kept.pop(task_id, None)
        self._changed.set()

    def unanswered(self) -> list[tuple[Given, Outcome]]:
        return list(self._kept.values())

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    @asynccontextmanager
    async def at(self, port: int) -> AsyncIterator[FastLink]:
        """Connected with a server; whatever ends the link is raised where it is awaited."""
        link = FastLink(Address("127.0.0.1", port))
        self.links.append(link)
        running = asyncio.create_task(link.run(self))
        try:
            yield link
        finally:
            self.links.remove(link)
            running.cancel()
            with suppress(asyncio.CancelledError, LinkLostError):
                await running


async def holds(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def outputs(engine: Engine, inputs: list[Any], flow: Any = FLOW, **options: Any) -> list[Any]:
    run = await engine.submit(flow, inputs, **options)
    async with asyncio.timeout(60):
        return [result.output async for result in run.results()]


async def test_a_batch_goes_through_one_worker(engine: Engine, server: Server) -> None:
    desk = BareDesk()

    async with desk.at(server.port):
        assert await outputs(engine, [{"n": n} for n in range(300)]) == [{"n": n} for n in range(300)]
        await desk.until(lambda: not desk.has())

    assert len(desk.executed) == len(set(desk.executed)) == 300


async def test_a_failure_is_the_steps_failure(engine: Engine, server: Server) -> None:
    desk = BareDesk()
    desk.does = lambda given: Failed(ErrorCode.COMPONENT_FAILED, "bad", data={"line": 3})

    async with desk.at(server.port):
        run = await engine.submit(FLOW, [1])
        (result,) = [result async for result in run.results()]

    assert result.error == Failed(ErrorCode.COMPONENT_FAILED, "bad", data={"line": 3})


async def test_a_worker_that_drains_says_its_answers_first_and_takes_nothing_more(
    engine: Engine, server: Server
) -> None:
    desk = BareDesk()
    desk.does = lambda given: None
    link = FastLink(Address("127.0.0.1", server.port))
    desk.links.append(link)
    running = asyncio.create_task(link.run(desk))
    run = await engine.submit(FLOW, list(range(10)))
    await desk.until(lambda: len(desk.busy) == 4)

    desk.is_draining = True
    link.changed()
    for given in desk.busy:
        desk.end(given, Succeeded("done"))
    async with asyncio.timeout(60):
        await running

    assert (len(desk.executed), desk.has()) == (4, [])
    assert (await run.record()).succeeded == 4


async def test_what_a_lost_connection_had_begun_is_answered_over_the_next(engine: Engine, server: Server) -> None:
    desk = BareDesk()
    desk.does = lambda given: None
    async with desk.at(server.port):
        run = await engine.submit(FLOW, [1, 2])
        await desk.until(lambda: len(desk.busy) == 2)
    for given in desk.busy:
        desk.end(given, Succeeded(given.task.input))

    async with desk.at(server.port), asyncio.timeout(60):
        assert [result.output async for result in run.results()] == [1, 2]
        await desk.until(lambda: not desk.has())
    assert len(desk.executed) == 2


async def test_a_server_without_the_fast_path_says_so() -> None:
    import grpc.aio

    bare = grpc.aio.server()
    port = bare.add_insecure_port("127.0.0.1:0")
    await bare.start()
    try:
        with pytest.raises(NotSpokenError):
            await FastLink(Address("127.0.0.1", port)).run(BareDesk())
    finally:
        await bare.stop(None)


async def test_a_server_that_is_not_there_is_a_lost_link(engine: Engine) -> None:
    async with Server(engine, port=0) as server:
        port = server.port

    with pytest.raises(LinkLostError):
        await FastLink(Address("127.0.0.1", port)).run(BareDesk())


async def test_what_was_begun_before_a_restart_is_answered_after_it_and_done_once(tmp_path: Any) -> None:
    store, desk = tmp_path / "runs.db", BareDesk()
    desk.does = lambda given: None
    async with make_engine(store) as engine, Server(engine, port=0) as server, desk.at(server.port):
        run = await engine.submit(FLOW, ["a", "b"])
        await desk.until(lambda: len(desk.busy) == 2)
    first, second = desk.busy
    desk.end(first, Succeeded(first.task.input))

    async with make_engine(store) as engine, Server(engine, port=0) as server, desk.at(server.port):
        again = await engine.get_run(run.id)
        await desk.until(lambda: len(desk.has()) == 1)
        desk.end(second, Succeeded(second.task.input))

        assert [result.output async for result in again.results()] == ["a", "b"]
        await desk.until(lambda: not desk.has())
    assert len(desk.executed) == 2


async def test_an_output_that_no_server_takes_fails_its_step_with_the_remedy(engine: Engine, server: Server) -> None:
    sizes = [5, 3, 1]
    desk = BareDesk()
    desk.does = lambda given: Succeeded("x" * (given.task.input * 1024 * 1024))

    async with desk.at(server.port):
        run = await engine.submit(FLOW, sizes)
        results = [result async for result in run.results()]

    assert results[0].error is not None
    assert results[0].error.code is ErrorCode.INVALID_INPUT
    assert "5.0 MiB" in results[0].error.message
    assert "blob" in results[0].error.message
    assert [len(str(result.output)) for result in results[1:]] == [3 * 1024 * 1024, 1024 * 1024]


async def test_new_components_are_told(engine: Engine, server: Server) -> None:
    flow = {"steps": [{"id": "s", "component": "/w/late", "input": 1}], "output": {"$step": "s"}}
    desk = BareDesk()

    async with desk.at(server.port) as link:
        assert await outputs(engine, [1]) == [1]
        desk.components = (ComponentInfo(id="late"),)
        link.changed()
        await holds(lambda: desk.components == server._hub.catalogue.components("default"))

        assert await outputs(engine, [1], flow) == [1]


async def test_a_task_that_takes_its_time_is_said_to_have_begun_and_stopped_when_nobody_wants_it(
    engine: Engine, server: Server
) -> None:
    desk = BareDesk()
    desk.does = lambda given: None

    async with desk.at(server.port):
        run = await engine.submit(FLOW, [1])
        await desk.until(lambda: bool(desk.busy))
        await holds(lambda: server._hub.queues.statistics()[0].claimed == 1)
        await run.cancel()
        await desk.until(lambda: bool(desk.stopped))

    assert desk.stopped == desk.executed


class Breaking:
    """A stream that breaks when the test says so."""

    def __init__(self) -> None:
        self.broken: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes:
        return await self.broken

    async def write(self, frame: bytes) -> None:
        pass


async def test_who_ends_the_link_at_the_moment_in_which_it_breaks_ends_it() -> None:
    link, call = FastLink(Address("127.0.0.1", 1)), Breaking()
    serving = asyncio.create_task(link._serve(BareDesk(), call, Welcome(engine="e", url="127.0.0.1:1")))
    async with asyncio.timeout(60):
        while not link.is_live:
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)  # whatever it begins with is under way

    call.broken.set_exception(LinkLostError("the server is closing"))
    await asyncio.sleep(0)  # its reader has heard of it, and who waits for the reader has not
    serving.cancel()

    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not link.is_live


async def test_a_link_that_breaks_says_why() -> None:
    link, call = FastLink(Address("127.0.0.1", 1)), Breaking()
    call.broken.set_exception(LinkLostError("the server is closing"))

    with pytest.raises(LinkLostError, match="the server is closing"):
        await link._serve(BareDesk(), call, Welcome(engine="e", url="127.0.0.1:1"))
