"""An engine that was not heard of for longer than its lease begins nothing before it has asked."""

from typing import Any

import anyio
import pytest

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock, turned_backend

pytestmark = pytest.mark.anyio

FLOW = {"steps": [{"id": "s", "component": "/work", "input": {"$input": "$"}}], "output": {"$step": "s"}}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return turned_backend(request.param)


class SilentOwners:
    """The owners of a store that hears nothing of one engine for so many seconds, after it has entered."""

    def __init__(self, real: Any, clock: TurnedClock, seconds: float) -> None:
        self._real = real
        self._clock = clock
        self._until = clock.now() + seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def beat(self, owner: str) -> bool:
        await self._clock.sleep(max(0.0, self._until - self._clock.now()))
        return bool(await self._real.beat(owner))


class SilentBackend:
    """A backend with such owners."""

    def __init__(self, real: MemoryBackend, clock: TurnedClock, seconds: float) -> None:
        self._real = real
        self.owners = SilentOwners(real.owners, clock, seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def __aenter__(self) -> "SilentBackend":
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass


async def test_an_engine_that_was_replaced_in_silence_begins_no_step_that_was_ready_before() -> None:
    clock, began = TurnedClock(), []
    store = MemoryBackend(shared=True, clock=clock)

    def components(name: str) -> Components:
        app = Components()

        @app.component("/work")
        async def work(value: int, ctx: Context) -> int:
            began.append((name, ctx.item))
            await clock.sleep(20 if name == "silent" else 0)
            return value

        return app

    silent: Any = SilentBackend(store, clock, 20.5)
    async with Engine(components("silent"), store=silent, clock=clock) as engine:
        run = await engine.submit(FLOW, [0, 1, 2], max_concurrency=1)
        async with Engine(components("other"), store=store, clock=clock):
            with anyio.fail_after(600):
                await run.wait()
                await clock.sleep(60)
            outputs = [result.output async for result in run.results()]

    assert began == [("silent", 0), ("other", 0), ("other", 1), ("other", 2)]
    assert outputs == [0, 1, 2]
