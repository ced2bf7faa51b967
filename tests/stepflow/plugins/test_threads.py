import threading

import anyio
import anyio.to_thread
import pytest

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.testing.clock import TurnedClock, turned_backend

pytestmark = pytest.mark.anyio

OUTER = {"steps": [{"id": "a", "component": "/outer", "input": {"$input": "$"}}], "output": {"$step": "a"}}
INNER = {"steps": [{"id": "a", "component": "/inner", "input": {"$input": "$"}}], "output": {"$step": "a"}}


@pytest.fixture
def anyio_backend(anyio_backend: str):
    return turned_backend(anyio_backend)


async def test_a_turned_clock_waits_for_a_thread_that_works():
    app = Components()

    @app.component
    def outer(input):
        gate.wait(60)
        return 1

    gate = threading.Event()
    clock = TurnedClock()
    opener = threading.Timer(0.05, gate.set)
    opener.start()
    async with Engine(app, clock=clock) as engine:
        assert await engine.run(OUTER, deadline_s=60) == 1
    opener.join(240)

    assert clock.elapsed_s == 0


async def test_a_turned_clock_goes_on_while_a_thread_waits_for_its_sub_run():
    app = Components()

    @app.component
    def outer(input, ctx: Context):
        return ctx.sync.evaluate(INNER, input) + 1

    @app.component
    async def inner(input):
        await anyio.sleep(36_000)
        return input

    clock = TurnedClock()
    async with Engine(app, clock=clock) as engine:
        assert await engine.run(OUTER, 1) == 2

    assert clock.elapsed_s == 36_000


async def test_cancelling_reaches_a_thread_that_waits_for_its_sub_run():
    app = Components()
    ended = threading.Event()

    @app.component
    def outer(input, ctx: Context):
        try:
            ctx.sync.evaluate(INNER, input)
        finally:
            ended.set()

    @app.component
    async def inner(input):
        await anyio.sleep_forever()

    async with Engine(app, clock=TurnedClock()) as engine:
        run = await engine.submit(OUTER, [1], deadline_s=60)
        await run.wait()
        assert await anyio.to_thread.run_sync(ended.wait, 10)
