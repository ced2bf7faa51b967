"""However many runs an engine left unfinished, the next one takes over all of them."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.execution.options import RecoverySettings
from stepflow.records import RunStatus
from stepflow.stores.memory import MemoryBackend
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


async def test_all_the_runs_of_a_dead_engine_are_taken_over_within_ten_seconds() -> None:
    clock = TurnedClock()
    store = MemoryBackend(shared=True, clock=clock)
    taken: set[int] = set()

    def components(name: str) -> Components:
        app = Components()

        @app.component("/hold")
        async def hold(value: int) -> int:
            if name == "other":
                taken.add(value)
            await anyio.sleep_forever()

        return app

    dead: Any = DyingBackend(store)
    few = RecoverySettings(max_claims_per_check=4)
    async with Engine(components("dead"), store=dead, clock=clock) as engine:
        for number in range(5 * RUNS):
            await engine.submit(FLOW, [number])
        dead.is_silent = True
        async with Engine(components("other"), store=store, clock=clock, recovery=few):
            await clock.sleep(10)

    assert len(taken) == 5 * RUNS


class DyingBackend:
    """A backend that at some point hears nothing more of its engine."""

    def __init__(self, real: MemoryBackend) -> None:
        self._real = real
        self.is_silent = False
        self.owners: Any = DyingOwners(self, real.owners)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def __aenter__(self) -> "DyingBackend":
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass


class DyingOwners:
    def __init__(self, backend: DyingBackend, real: Any) -> None:
        self._backend = backend
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def beat(self, owner: str) -> bool:
        return self._backend.is_silent or bool(await self._real.beat(owner))
