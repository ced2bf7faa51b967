"""Workers and servers that talk over loopback."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import stepflow
from stepflow.components import Components
from stepflow.context import Context
from stepflow.engine import Engine
from stepflow.records import ErrorCode
from stepflow_grpc.server import Server
from stepflow_grpc.worker.worker import Worker, WorkerError

pytestmark = pytest.mark.anyio


def process_id(n: int) -> int:
    """A process finds it by its module, so that it stands at the top."""
    return os.getpid()


async def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_batch_goes_through_a_worker_in_order(working: Any, outputs: Any, fast_path: bool) -> None:
    app = Components()
    app.component("/double")(lambda n: n * 2)

    @app.component("/next")
    async def following(n: int) -> int:
        return n + 1

    async with working(app, fast_path=fast_path):
        found = await outputs(["/w/double", "/w/next"], list(range(30)))

    assert found == [2 * n + 1 for n in range(30)]


async def test_each_worker_of_a_queue_is_sent_only_what_it_has(working: Any, outputs: Any, fast_path: bool) -> None:
    older, newer = Components(), Components()
    for app in (older, newer):
        app.component("/double")(lambda n: n * 2)
    newer.component("/triple")(lambda n: n * 3)

    async with working(older, fast_path=fast_path, max_concurrent=2), working(newer, fast_path=fast_path):
        found = await outputs(["/w/double", "/w/triple"], list(range(60)))

    assert found == [6 * n for n in range(60)]


async def test_a_route_may_name_the_components_below_it(
    make_engine: Any, quiet_heart: Any, line: Any, fast_path: bool
) -> None:
    app = Components()
    app.component("/double")(lambda n: n * 2)
    app.component("/times/{factor}")(lambda n, *, factor: n * int(factor))
    routes = {"/python/{*component}": [{"plugin": "workers"}]}

    async with (
        make_engine(routes=routes) as engine,
        Server(engine, port=0) as server,
        Worker(app, url=f"127.0.0.1:{server.port}", make_heart=quiet_heart, fast_path=fast_path),
        asyncio.timeout(60),
    ):
        run = await engine.submit(line("/python/double", "/python/times/3"), [1, 2])
        found = [result.output async for result in run.results()]

    assert found == [6, 12]


async def test_a_worker_does_no_more_at_a_time_than_it_has_slots(working: Any, outputs: Any, fast_path: bool) -> None:
    app, now, most, all_busy = Components(), 0, 0, asyncio.Event()

    @app.component("/busy")
    async def busy(n: int) -> int:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        if now == 3:
            all_busy.set()
        await all_busy.wait()
        await asyncio.sleep(0.005)  # time for one more, if it were begun
        now -= 1
        return n

    async with working(app, max_concurrent=3, fast_path=fast_path):
        await outputs(["/w/busy"], list(range(20)))

    assert most == 3


def tasks_of_workers() -> list[Any]:
    coroutines: list[Any] = [task.get_coro() for task in asyncio.all_tasks()]
    codes = [each.cr_code for each in coroutines if each.cr_code is not None]  # older grpcio's own have none
    return [code for code in codes if "stepflow_grpc/worker" in Path(code.co_filename).as_posix()]


async def test_tasks_leave_nothing_behind(working: Any, outputs: Any, fast_path: bool) -> None:
    app = Components()
    app.component("/double")(lambda n: n * 2)

    async with working(app, fast_path=fast_path) as worker:
        await outputs(["/w/double"], list(range(5)))
        await eventually(lambda: not worker._desk.has())
        kept = len(tasks_of_workers())
        await outputs(["/w/double"], list(range(100)))
        await eventually(lambda: not worker._desk.has() and len(tasks_of_workers()) <= kept)

        assert len(worker._calls._connected) <= 1


async def test_calls_of_a_batch_come_together_though_there_is_one_slot(
    working: Any, outputs: Any, fast_path: bool
) -> None:
    app, sizes = Components(), []

    @app.component("/embed", batch=stepflow.Batch(size=5, wait_ms=60_000))
    def embed(texts: list[str]) -> list[int]:
        sizes.append(len(texts))
        return [len(text) for text in texts]

    async with working(app, max_concurrent=1, fast_path=fast_path):
        found = await outputs(["/w/embed"], ["a" * n for n in range(10)])

    assert found == list(range(10))
    assert sizes == [5, 5]


async def test_a_component_that_keeps_a_processor_busy_runs_in_a_process(working: Any, outputs: Any) -> None:
    app = Components()
    app.component("/pid", process=True)(process_id)

    async with working(app):
        (pid,) = await outputs(["/w/pid"], [1])

    assert pid != os.getpid()


async def test_nothing_is_pulled_before_the_lifespan_is_loaded(
    quiet_heart: Any, engine: Engine, server: Server, line: Any, fast_path: bool
) -> None:
    begun, loaded = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def load() -> AsyncIterator[str]:
        begun.set()
        await loaded.wait()
        yield "model"

    app = Components(lifespan=load)

    @app.component("/ask")
    async def ask(n: int, ctx: Context) -> str:
        return f"{ctx.state} {n}"

    run = await engine.submit(line("/w/ask"), [1])
    worker = Worker(app, url=f"127.0.0.1:{server.port}", make_heart=quiet_heart, fast_path=fast_path)
    serving = asyncio.create_task(worker.run())
    await begun.wait()
    was_ready = worker.is_ready
    loaded.set()
    (result,) = [result async for result in run.results()]
    worker.stop()
    await serving

    assert not was_ready
    assert result.output == "model 1"


async def test_what_the_lifespan_raises_comes_out_of_the_worker(quiet_heart: Any, server: Server) -> None:
    @asynccontextmanager
    async def load() -> AsyncIterator[None]:
        raise ValueError("no model here")
        yield

    app = Components(lifespan=load)
    app.component("/x")(lambda n: n)

    with pytest.raises(ValueError, match="no model here"):
        async with Worker(app, url=f"127.0.0.1:{server.port}", make_heart=quiet_heart):
            pass


RAISED = {
    "invalid": (stepflow.InvalidInputError("no"), ErrorCode.INVALID_INPUT),
    "resource": (OSError("no disk"), ErrorCode.RESOURCE_UNAVAILABLE),
    "type": (TypeError("no int"), ErrorCode.INVALID_INPUT),
    "value": (ValueError("bad"), ErrorCode.COMPONENT_FAILED),
    "key": (KeyError("x"), ErrorCode.COMPONENT_FAILED),
}


async def test_each_exception_is_told_by_its_code(working: Any, results: Any, fast_path: bool) -> None:
    app = Components()

    @app.component("/fail")
    async def fail(name: str) -> None:
        raise RAISED[name][0]

    async with working(app, fast_path=fast_path):
        found = await results(["/w/fail"], list(RAISED))

    assert [result.error and result.error.code for result in found] == [code for _, code in RAISED.values()]


async def test_null_is_an_output(working: Any, results: Any, fast_path: bool) -> None:
    app = Components()
    app.component("/nothing")(lambda n: None)

    async with working(app, fast_path=fast_path):
        (result,) = await results(["/w/nothing"], [1])

    assert result.ok
    assert result.output is None


async def test_cancelling_a_run_stops_the_component(engine: Engine, working: Any, line: Any) -> None:
    app, begun, stopped = Components(), asyncio.Event(), asyncio.Event()

    @app.component("/long")
    async def long(n: int) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with working(app) as worker:
        run = await engine.submit(line("/w/long"), [1])
        await begun.wait()
        await engine.cancel(run.id)
        async with asyncio.timeout(60):
            await stopped.wait()
        await eventually(lambda: worker.running == 0)


NEST = {
    "steps": [{"id": "s", "component": "/w/nest", "input": {"$input": "$"}}],
    "output": {"$step": "s"},
}


async def test_one_slot_is_enough_for_sub_runs_in_its_own_queue_five_deep(
    working: Any, outputs: Any, fast_path: bool
) -> None:
    app = Components()

    @app.component("/nest")
    async def nest(depth: int, ctx: Context) -> list[int]:
        if depth == 0:
            return [0]
        return [depth, *await ctx.evaluate(NEST, depth - 1)]

    async with working(app, max_concurrent=1, fast_path=fast_path):
        found = await outputs(["/w/nest"], [5, 5])

    assert found == [[5, 4, 3, 2, 1, 0]] * 2


async def test_a_plain_function_may_wait_for_a_sub_run(working: Any, outputs: Any, fast_path: bool) -> None:
    app = Components()

    @app.component("/nest")
    def nest(depth: int, ctx: Context) -> int:
        return 0 if depth == 0 else 1 + ctx.sync.evaluate(NEST, depth - 1)

    async with working(app, max_concurrent=1, fast_path=fast_path):
        assert await outputs(["/w/nest"], [2]) == [2]


async def test_leaving_finishes_what_is_at_work_and_takes_nothing_more(
    engine: Engine, server: Server, working: Any, line: Any, fast_path: bool
) -> None:
    app, begun, go_on, calls = Components(), asyncio.Event(), asyncio.Event(), []

    @app.component("/gate")
    async def gate(n: int) -> int:
        calls.append(n)
        begun.set()
        await go_on.wait()
        return n

    async with working(app, max_concurrent=1, fast_path=fast_path) as worker:
        run = await engine.submit(line("/w/gate"), [0, 1])
        await begun.wait()
        worker.stop()
        await asyncio.sleep(0)
        go_on.set()
    record = await run.record()
    await engine.cancel(run.id)

    assert calls == [0]
    assert record.succeeded == 1


@pytest.mark.slow
async def test_after_the_grace_tasks_go_back_to_the_queue(
    engine: Engine, working: Any, line: Any, fast_path: bool
) -> None:
    begun = asyncio.Event()
    stuck, quick = Components(), Components()

    @stuck.component("/do")
    async def for_ever(n: int) -> int:
        begun.set()
        await asyncio.Event().wait()
        return n

    quick.component("/do")(lambda n: n + 1)

    async with working(stuck, grace_s=0.05, fast_path=fast_path):
        run = await engine.submit(line("/w/do"), [1])
        await begun.wait()
    async with working(quick, fast_path=fast_path), asyncio.timeout(60):
        (result,) = [result async for result in run.results()]

    assert result.output == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"max_concurrent": 0}, "give max_concurrent 1 or more"), ({"queue": ""}, "the queue has no name")],
)
async def test_a_worker_that_could_do_nothing_is_refused(options: dict[str, Any], reason: str) -> None:
    app = Components()
    app.component("/x")(lambda n: n)

    with pytest.raises(WorkerError, match=reason):
        Worker(app, **options)
    with pytest.raises(WorkerError, match="no components"):
        Worker(Components())
