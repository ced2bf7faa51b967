"""How far a component is on a worker of another engine, as whoever watches the engine of its run hears it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from watching import Watching

from stepflow.components import Components
from stepflow.context import Context
from stepflow.engine import Engine
from stepflow_grpc import reports
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.doors.guard import FixedTokens
from stepflow_grpc.server import Server
from stepflow_grpc.worker import progress as module
from stepflow_grpc.worker.worker import Worker

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-workers"


@asynccontextmanager
async def opened(make_engine: Callable[..., Engine], store: Callable[[], Any]) -> AsyncIterator[tuple[Engine, Server]]:
    async with (
        make_engine(store=store()) as engine,
        Server(engine, port=0, tokens=FixedTokens([TOKEN])) as server,
    ):
        yield engine, server


async def test_what_a_component_reports_on_another_engines_worker_reaches_observers_that_came_later(
    make_engine: Callable[..., Engine],
    shared_store: Callable[[], Any],
    line: Any,
    quiet_heart: Any,
    fast_path: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PROGRESS_EVERY_S", 0.02)
    monkeypatch.setattr(reports, "EVERY_S", 0.02)
    watching, elsewhere = Watching(), Watching()
    app = Components()

    @app.component("/work")
    async def work(n: int, ctx: Context) -> int:
        for count, value in enumerate((0.25, "loading"), 1):
            ctx.progress(value)
            await watching.until(count)
        return n

    async with opened(make_engine, shared_store) as (owner, _), opened(make_engine, shared_store) as (other, server):
        owner.observe(watching)
        other.observe(elsewhere)
        options: dict[str, Any] = {"url": f"127.0.0.1:{server.port}", "make_heart": quiet_heart}
        async with Worker(app, credentials=Credentials(token=TOKEN), fast_path=fast_path, **options) as worker:
            async with asyncio.timeout(120):
                await worker.ready()
                assert await owner.run(line("/w/work"), 7) == 7

    assert watching.told == [("s0", 0, 0.25), ("s0", 0, "loading")]
    assert elsewhere.told == []
