"""How far components of a worker say that they are, as whoever watches the engine hears it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from watching import Watching

from stepflow.components import Components
from stepflow.context import Context
from stepflow.engine import Engine
from stepflow.records import Json
from stepflow_grpc.worker import progress as module

pytestmark = pytest.mark.anyio


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
async def engine(make_engine: Callable[..., Engine], watching: Watching) -> AsyncIterator[Engine]:
    async with make_engine(observers=[watching]) as opened:
        yield opened


async def test_what_a_component_reports_reaches_observers(
    working: Any, outputs: Any, watching: Watching, fast_path: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRESS_EVERY_S", 0.02)
    app = Components()
    stage: Json = {"stage": "two", "of": [1, None]}

    @app.component("/work")
    async def work(n: int, ctx: Context) -> int:
        for count, value in enumerate((0.25, "loading", stage), 1):
            ctx.progress(value)
            await watching.until(count)
        return n

    async with working(app, fast_path=fast_path):
        assert await outputs(["/w/work"], [7]) == [7]

    last = stage if fast_path else '{"stage":"two","of":[1,null]}'
    assert watching.told == [("s0", 0, 0.25), ("s0", 0, "loading"), ("s0", 0, last)]


async def test_of_what_is_reported_too_soon_the_last_is_told(
    working: Any, outputs: Any, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRESS_EVERY_S", 0.2)
    app = Components()

    @app.component("/wait")
    async def wait(n: int, ctx: Context) -> int:
        for count in range(100):
            ctx.progress(count)
        await watching.until(2)
        return n

    async with working(app):
        assert await outputs(["/w/wait"], [7]) == [7]

    assert watching.told == [("s0", 0, 0), ("s0", 0, 99)]


async def test_what_is_too_long_for_progress_is_not_told_and_harms_nobody(
    working: Any, outputs: Any, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    app = Components()

    @app.component("/work")
    async def work(n: int, ctx: Context) -> int:
        ctx.progress("x" * module.LONGEST_PROGRESS)
        return n

    async with working(app):
        assert await outputs(["/w/work"], [7]) == [7]

    assert watching.told == []
    assert "it has 65538 bytes as JSON" in caplog.text
