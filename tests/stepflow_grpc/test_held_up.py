"""What a server makes of beats of a worker that is held up."""

from collections.abc import AsyncIterator

import anyio
import pytest

from stepflow.clock import SystemClock
from stepflow.engine import Engine
from stepflow.records import ComponentInfo, Succeeded
from stepflow_grpc.frames import Beat, Begun, frame
from stepflow_grpc.held_up import HeldUpWorkers
from stepflow_grpc.plugin import Hub, QueuePlugin, make_hub
from stepflow_grpc.queues.entry import OVERDUE_S
from stepflow_grpc.queues.records import QueuedTask, WorkerKind, WorkerReport
from stepflow_grpc.queues.stream import Stream
from stepflow_grpc.services.beats import BeatService

pytestmark = pytest.mark.anyio

FLOW = {"steps": [{"id": "s", "component": "/w/c", "input": {"$input": "$"}}], "output": {"$step": "s"}}
STACK = "held up by thread 'x' is at:\n  File \"a.py\", line 1 in slow"


class Bench:
    """An engine whose queue has two workers by hand, and what hears of them."""

    def __init__(self, engine: Engine, hub: Hub) -> None:
        self.engine = engine
        self.queues = hub.queues
        self.beats = BeatService(hub, HeldUpWorkers(engine, hub.queues))
        self.streams = {id: hub.queues.connect("q", id, WorkerKind.OURS, credit=1) for id in ("one", "two")}

    async def beat(self, worker_id: str, held_up_s: float = 0.0, stack: str | None = None, *begun: Begun) -> None:
        beat = Beat(worker_id=worker_id, held_up_s=held_up_s, stack=stack, begun=begun, report=WorkerReport(slots=1))
        await self.beats.Beat(frame(beat))

    async def sent(self) -> tuple[str, Stream, QueuedTask]:
        """The task that is sent next, and to whom."""
        with anyio.fail_after(60):
            while True:
                for id, stream in self.streams.items():
                    if stream.has_more:
                        queued = await stream.next()
                        assert isinstance(queued, QueuedTask)
                        return id, stream, queued
                await anyio.sleep(0.01)

    async def explained(self, run_id: str, wanted: str) -> str:
        """The explanation, once these words are in it."""
        with anyio.fail_after(60):
            while wanted not in (text := str(await self.engine.explain(run_id))):
                await anyio.sleep(0.01)
        return text


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    plugin = QueuePlugin(name="workers", queue="q")
    async with Engine(plugins={"workers": plugin}, routes={"/w": [{"plugin": "workers"}]}) as engine:
        hub = make_hub(SystemClock())
        plugin.attach(hub)
        hub.catalogue.learn("q", "one", [ComponentInfo(id="c")], ["one"])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hub.queues.run)
            yield Bench(engine, hub)
            tasks.cancel_scope.cancel()


async def test_steps_say_what_holds_their_worker_up_and_that_it_goes_on(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    run = await bench.engine.submit(FLOW, [1])
    id, _, queued = await bench.sent()
    bench.queues.heartbeat(queued.id, id, attempt=1)

    for held_up_s, stack in ((1.0, None), (2.0, STACK), (3.0, STACK)):
        await bench.beat(id, held_up_s, stack)
    explained = await bench.explained(run.id, "has had no turn")
    during = next(worker for worker in bench.queues.workers() if worker.id == id)
    await bench.beat(id)
    after = next(worker for worker in bench.queues.workers() if worker.id == id)
    bench.queues.complete(queued.id, Succeeded(1), attempt=1, worker_id=id)
    outcomes = [result.outcome async for result in run.results()]

    assert "line 1 in slow" in explained
    assert "process=True" in explained
    assert (during.held_up_s, during.stack) == (3.0, STACK)
    assert (after.held_up_s, after.stack) == (0.0, None)
    warnings = [record.getMessage() for record in caplog.records if "has had no turn" in record.getMessage()]
    assert len(warnings) == 1
    assert f"it keeps step 's' of run {run.id}\n{STACK}" in warnings[0]
    assert outcomes == [Succeeded(1)]
    waits = [event.reason for event in [each async for each in bench.engine.events(run.id)] if hasattr(event, "reason")]
    assert [bool(reason) for reason in waits] == [True, False]


async def test_what_a_held_up_worker_began_stays_with_it(bench: Bench) -> None:
    await bench.engine.submit(FLOW, [1])
    id, _, queued = await bench.sent()

    await bench.beat(id, 1.0, None, Begun(queued.id, 1))
    await bench.beat(id, 2.0, STACK)

    worker = next(worker for worker in bench.queues.workers() if worker.id == id)
    assert (worker.claimed, worker.unclaimed) == (1, 0)


async def test_what_a_worker_began_before_is_no_claim_of_what_others_have_now(bench: Bench) -> None:
    await bench.engine.submit(FLOW, [1])
    id, _, queued = await bench.sent()
    other = "two" if id == "one" else "one"

    await bench.beat(id, 0.0, None, Begun(queued.id, 7))
    await bench.beat(other, 0.0, None, Begun(queued.id, 1))

    assert sum(worker.claimed for worker in bench.queues.workers()) == 0


async def test_what_a_held_up_worker_did_not_begin_is_sent_to_another(bench: Bench) -> None:
    await bench.engine.submit(FLOW, [1])
    id, _, queued = await bench.sent()

    await bench.beat(id, 1.0)
    other, _, copy = await bench.sent()

    assert copy is queued
    assert {id, other} == {"one", "two"}


async def test_a_worker_that_is_not_held_up_is_given_more_time_to_say_what_it_begins(bench: Bench) -> None:
    await bench.engine.submit(FLOW, [1])
    id, _, _ = await bench.sent()
    await bench.beat(id)

    with anyio.move_on_after(3 * OVERDUE_S):
        await bench.sent()
        pytest.fail("it was sent to another")

    assert sum(worker.unclaimed for worker in bench.queues.workers()) == 1


async def test_nobody_is_known_of_whom_nothing_was_heard(bench: Bench) -> None:
    answer = await bench.beats.Beat(frame(Beat(worker_id="nobody", held_up_s=3.0, stack=STACK)))

    assert b"true" not in answer.json
