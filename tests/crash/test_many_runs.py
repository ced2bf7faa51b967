"""However many runs an engine left unfinished, the next one takes over all of them."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.execution.options import RecoverySettings
from stepflow.records import RunStatus
from stepflow.testing.clock import TurnedClock, turned_backend

pytestmark = pytest.mark.anyio

RUNS = 25
FLOW = {"steps": [{"id": "s", "component": "/hold", "input": {"$input": "$"}}], "output": {"$step": "s"}}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return turned_backend(request.param)


async def test_more_runs_than_are_taken_over_at_the_start_are_taken_over_after_it(tmp_path: Path) -> None:
    app, clock = Components(), TurnedClock()

    @app.component("/hold")
    async def hold(value: int, ctx: Context) -> int:
        if ctx.attempt == 1:
            await anyio.sleep_forever()
        return value

    few = RecoverySettings(max_startup_recovery=10, max_claims_per_check=4)
    async with Engine(app, store=tmp_path / "runs.db", clock=clock) as engine:
        for number in range(RUNS):
            await engine.submit(FLOW, [number])
        await clock.sleep(1)

    async with Engine(app, store=tmp_path / "runs.db", clock=clock, recovery=few) as engine:
        for record in await engine.list_runs():
            with clock.timeout(600):
                await (await engine.get_run(record.id)).wait()
        ended = await engine.list_runs(status=RunStatus.COMPLETED)

    assert len(ended) == RUNS
