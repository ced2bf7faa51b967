"""Inputs that are streamed in, and what becomes of their source."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from stepflow.clock import SystemClock
from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.execution.events import RunEnded
from stepflow.execution.runners import FEED_BELOW
from stepflow.records import RunStatus

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]
Chained = Callable[..., dict[str, Any]]


@pytest.fixture
def app() -> Components:
    app = Components()

    @app.component("/echo")
    async def echo(value: Any) -> Any:
        return value

    return app


class Hurried(SystemClock):
    """A second is over whenever somebody looks."""

    def __init__(self) -> None:
        self._looked = 0

    def now(self) -> float:
        self._looked += 1
        return super().now() + self._looked


async def test_items_begin_while_a_slow_iterable_is_read(chained: Chained) -> None:
    seen: list[int] = []
    app = Components()

    @app.component("/see")
    async def see(value: int) -> None:
        seen.append(value)

    def slow() -> Iterator[int]:
        for number in range(1_000):
            behind.append(number - len(seen))
            yield number

    behind: list[int] = []
    async with Engine(app, clock=Hurried()) as engine:
        await (await engine.submit(chained("/see"), slow())).wait()

    assert len(seen) == 1_000
    assert max(behind) <= FEED_BELOW


class Source:
    """Gives some numbers, then is silent until it is left."""

    def __init__(self) -> None:
        self.left = anyio.Event()

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            yield 0
            yield 1
            await anyio.sleep_forever()
        finally:
            self.left.set()


async def test_a_silent_source_is_left_when_the_reader_leaves(
    app: Components, make_engine: MakeEngine, chained: Chained
) -> None:
    source = Source()

    async with make_engine(app) as engine:
        async with aclosing(engine.run_batch(chained("/echo"), source)) as results:
            async for _ in results:
                break

        with anyio.fail_after(60):
            await source.left.wait()


async def test_a_silent_source_is_left_when_the_run_is_cancelled(
    app: Components, make_engine: MakeEngine, chained: Chained
) -> None:
    source = Source()

    async with make_engine(app) as engine:
        run = await engine.submit(chained("/echo"), source)
        await run.cancel()

        with anyio.fail_after(60):
            await source.left.wait()
        record = await run.wait()

    assert record.status is RunStatus.CANCELLED


async def test_nothing_is_admitted_after_the_end(app: Components, make_engine: MakeEngine, chained: Chained) -> None:
    go_on = anyio.Event()

    async def late() -> AsyncIterator[int]:
        await go_on.wait()
        run.cancel_now()
        yield 0

    async with make_engine(app) as engine:
        run = await engine.submit(chained("/echo"), late())
        go_on.set()
        await run.wait()
        await anyio.wait_all_tasks_blocked()
        events = [event async for event in run.events()]

    assert isinstance(events[-1], RunEnded)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_source_that_raises_a_cancellation_of_its_own_ends_the_run(app: Components, chained: Chained) -> None:
    async def broken() -> AsyncIterator[int]:
        yield 0
        raise asyncio.CancelledError

    async with Engine(app) as engine:
        run = await engine.submit(chained("/echo"), broken())
        with pytest.raises(RuntimeError, match="the iterable was cancelled"):
            await run.wait()

        assert (await run.record()).status is RunStatus.FAILED
        assert await engine.run(chained("/echo"), 7) == 7
