"""The same key again: an unfinished run goes on, a finished one gives its results, another one is refused."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import InputInvalidError
from stepflow.execution.events import StepStarted
from stepflow.execution.options import RecoverySettings
from stepflow.records import RunStatus
from stepflow.stores.memory import MemoryBackend

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]
FLOW = {"steps": [{"id": "w", "component": "/work", "input": {"$input": "$"}}], "output": {"$step": "w"}}


class Work:
    """Counts its calls, and hangs at one input as long as it is told to."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.hangs_at: Any = None
        self.hung = anyio.Event()
        self.app = Components()

        @self.app.component("/work")
        async def work(value: Any) -> Any:
            self.calls.append(value)
            if value == self.hangs_at:
                self.hung.set()
                await anyio.sleep_forever()
            return value


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MemoryBackend(keep_events=True) if request.param == "memory" else tmp_path / "runs.db"


async def cut_off(engine: Engine, work: Work, inputs: Any, **options: Any) -> None:
    """Submit, and leave when only the item that hangs is under way."""
    run = await engine.submit(FLOW, inputs, **options)
    await work.hung.wait()
    live = run._live
    while live.state.opened < live.state.admitted or live.tree.has_ready or live.tree.performing > 1 or live.has_news:
        await anyio.sleep(1)


async def test_an_unfinished_batch_goes_on_where_it_was(make_engine: MakeEngine, work: Work, store: Any) -> None:
    work.hangs_at = 30
    async with make_engine(work.app, store=store) as engine:
        await cut_off(engine, work, list(range(100)), key="night")
    before, work.hangs_at = len(work.calls), None

    async with make_engine(work.app, store=store, recovery=RecoverySettings(enabled=False)) as engine:
        run = await engine.submit(FLOW, list(range(100)), key="night")
        outputs = [result.output async for result in run.results()]
        runs = await engine.list_runs()

    assert outputs == list(range(100))
    assert len(runs) == 1
    assert before == 100
    assert len(work.calls) == 101
    assert run.resumed is not None
    assert (run.resumed.ended, run.resumed.in_flight) == (99, 1)


async def test_streamed_inputs_go_on_at_the_admitted_count(make_engine: MakeEngine, work: Work, store: Any) -> None:
    taken: list[int] = []
    work.hangs_at = 30

    def stream() -> Iterator[int]:
        for number in range(2_000):
            taken.append(number)
            yield number

    async with make_engine(work.app, store=store, max_concurrency=5) as engine:
        run = await engine.submit(FLOW, stream(), key="night", keep_results=False)
        await work.hung.wait()
        await anyio.sleep(10)
    assert len(taken) < 2_000
    work.hangs_at = None

    async with make_engine(work.app, store=store, recovery=RecoverySettings(enabled=False)) as engine:
        again = await engine.submit(FLOW, stream(), key="night", keep_results=False)
        outputs = [result.output async for result in again.results()]

    assert again.id == run.id
    assert outputs == list(range(2_000))
    assert len(work.calls) <= 2_000 + 5


async def test_inputs_may_come_asynchronously_both_times(make_engine: MakeEngine, work: Work, store: Any) -> None:
    async def stream() -> AsyncIterator[int]:
        for number in range(20):
            yield number

    work.hangs_at = 5
    async with make_engine(work.app, store=store) as engine:
        await cut_off(engine, work, stream(), key="k")
    work.hangs_at = None

    async with make_engine(work.app, store=store) as engine:
        run = await engine.submit(FLOW, stream(), key="k")
        outputs = [result.output async for result in run.results()]

    assert outputs == list(range(20))


async def test_a_finished_run_gives_its_results_again(make_engine: MakeEngine, work: Work, store: Any) -> None:
    async with make_engine(work.app, store=store) as engine:
        first = await engine.submit(FLOW, [1, 2], key="k")
        await first.wait()
    async with make_engine(work.app, store=store) as engine:
        again = await engine.submit(FLOW, [1, 2], key="k")
        outputs = [result.output async for result in again.results()]

    assert (again.id, outputs, sorted(work.calls)) == (first.id, [1, 2], [1, 2])


async def test_a_new_run_is_started_where_one_is_asked_for(make_engine: MakeEngine, work: Work, store: Any) -> None:
    async with make_engine(work.app, store=store) as engine:
        first = await engine.submit(FLOW, [1], key="k")
        await first.wait()
        second = await engine.submit(FLOW, [2], key="k", new=True)
        await second.wait()
        found = await engine.backend.runs.find_key("k")

    assert first.id != second.id
    assert found is not None
    assert found.id == second.id


@pytest.mark.parametrize(
    ("inputs", "options", "why"),
    [
        ([1, 9], {}, "input 1 differs"),
        ([1], {}, "2 inputs, not 1"),
        ([1, 2, 3], {}, "here are more"),
        ([1, 2], {"variables": {"v": 1}}, "variables differ"),
        ([1, 2], {"overrides": {"steps": {"w": {"value": {"input": 3}}}}}, "overrides differ"),
    ],
)
async def test_another_submission_under_the_key_is_refused(
    make_engine: MakeEngine, work: Work, inputs: list[int], options: dict[str, Any], why: str
) -> None:
    async with make_engine(work.app) as engine:
        run = await engine.submit(FLOW, [1, 2], key="k")
        await run.wait()

        with pytest.raises(InputInvalidError, match=why):
            await engine.submit(FLOW, inputs, key="k", **options)

        assert (await run.record()).status is RunStatus.COMPLETED


async def test_a_refusal_leaves_the_unfinished_run_as_it_is(make_engine: MakeEngine, work: Work, store: Any) -> None:
    work.hangs_at = 1
    async with make_engine(work.app, store=store) as engine:
        await cut_off(engine, work, iter([0, 1, 2]), key="k")
    work.hangs_at = None

    async with make_engine(work.app, store=store, recovery=RecoverySettings(enabled=False)) as engine:
        with pytest.raises(InputInvalidError, match="differs"):
            await engine.submit(FLOW, iter([0, 7, 2]), key="k")
        run = await engine.submit(FLOW, iter([0, 1, 2]), key="k")
        outputs = [result.output async for result in run.results()]

    assert outputs == [0, 1, 2]


async def test_a_component_that_nobody_serves_now_is_waited_for(
    make_engine: MakeEngine, work: Work, store: Any
) -> None:
    work.hangs_at = 1
    async with make_engine(work.app, store=store) as engine:
        await cut_off(engine, work, [1], key="k")
    async with make_engine(Components(), store=store) as engine:
        await anyio.sleep(100)
        (waiting,) = await engine.list_runs()
    work.hangs_at = None
    async with make_engine(work.app, store=store) as engine:
        run = await engine.get_run(waiting.id)
        record = await run.wait()

    assert waiting.status is RunStatus.RUNNING
    assert record.status is RunStatus.COMPLETED


async def test_a_durable_store_takes_no_secret_in_clear_unless_told(
    make_engine: MakeEngine, work: Work, tmp_path: Path
) -> None:
    secret = {"type": "string", "is_secret": True}
    flow = {**FLOW, "schemas": {"properties": {"variables": {"properties": {"key": secret}}}}}

    async with make_engine(work.app, store=tmp_path / "a.db") as engine:
        with pytest.raises(InputInvalidError, match='"key" hold'):
            await engine.submit(flow, [1], variables={"key": "hunter2-hunter2"})
        await engine.run(flow, 1)
    async with make_engine(work.app, store=tmp_path / "b.db", secrets="plain") as engine:
        await engine.run(flow, 1, variables={"key": "hunter2-hunter2"})

    assert b"hunter2" not in (tmp_path / "a.db").read_bytes()
    assert b"hunter2" in (tmp_path / "b.db").read_bytes()


async def test_a_checkpoint_hides_no_event_that_is_still_stored(
    make_engine: MakeEngine, work: Work, tmp_path: Path
) -> None:
    often = RecoverySettings(checkpoint_interval=20)

    async with make_engine(work.app, store=tmp_path / "a.db", recovery=often) as engine:
        run = await engine.submit(FLOW, list(range(100)), max_concurrency=2)
        await run.wait()
        started = [event.item async for event in run.events() if isinstance(event, StepStarted)]

    assert sorted(started) == list(range(100))


async def collect(results: Any, outputs: list[Any]) -> None:
    async for result in results:
        outputs.append(result.output)  # noqa: PERF401  # what came before an error counts


def breaking_off(count: int) -> Any:
    yield from range(count)
    raise OSError("the disk is gone")


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_inputs_that_broke_off_are_no_end_and_the_rest_may_follow(
    make_engine: MakeEngine, work: Work, tmp_path: Path, is_restarted: bool
) -> None:
    store = tmp_path / "runs.db"
    outputs: list[Any] = []
    async with make_engine(work.app, store=store) as engine:
        run = await engine.submit(FLOW, breaking_off(5), key="night")
        with pytest.raises(OSError, match="the disk is gone"):
            await collect(run.results(), outputs)
        with pytest.raises(OSError, match="the disk is gone"):
            await run.wait()
        waiting = await engine.get(run.id)
        explained = str(await engine.explain(run.id))
        if not is_restarted:
            again = await engine.submit(FLOW, iter(range(8)), key="night")
            done = await again.wait()
    if is_restarted:
        async with make_engine(work.app, store=store) as engine:
            again = await engine.submit(FLOW, iter(range(8)), key="night")
            done = await again.wait()

    assert outputs == list(range(5))
    assert waiting.status is RunStatus.RUNNING
    assert "inputs" in explained
    assert again.id == run.id
    assert (done.status, done.succeeded) == (RunStatus.COMPLETED, 8)
    assert sorted(work.calls) == list(range(8))
