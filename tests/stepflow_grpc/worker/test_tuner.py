"""A worker that finds out its slots as it goes."""

import asyncio
from typing import Any

import pytest

from stepflow.clock import SystemClock
from stepflow.components import Components
from stepflow.records import ErrorCode, Failed, Outcome, Succeeded
from stepflow_grpc.worker import tuner as module
from stepflow_grpc.worker.figures import memory_share
from stepflow_grpc.worker.tuner import Tuner

pytestmark = pytest.mark.anyio

LOOKS = 40


class Desk:
    """Every slot is always taken."""

    def __init__(self, tuner: Tuner) -> None:
        self._tuner = tuner
        self.sizes: list[int] = []

    @property
    def busy(self) -> int:
        return self._tuner.slots

    def resize(self, slots: int) -> None:
        self.sizes.append(slots)


class World(SystemClock):
    """Two seconds pass at each look; in them a slot does ten tasks, of which those beyond a number fail."""

    def __init__(self, useful: int, late_s: float = 0.0) -> None:
        self._useful = useful
        self._late_s = late_s
        self._now = 0.0
        self.looks = 0
        self.tuner: Tuner | None = None

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        assert self.tuner is not None
        if self.looks == LOOKS:
            raise asyncio.CancelledError
        self.looks += 1
        self._now += seconds + self._late_s
        for slot in range(self.tuner.slots):
            outcome: Outcome = Succeeded(1) if slot < self._useful else Failed(ErrorCode.COMPONENT_FAILED, "too many")
            for _ in range(10):
                await self.tuner.counted(done(outcome))


async def done(outcome: Outcome) -> Outcome:
    return outcome


async def tuned(world: World, memory: float | None = None) -> Desk:
    world.tuner = Tuner(4, world, memory=lambda: memory)
    desk = Desk(world.tuner)
    with pytest.raises(asyncio.CancelledError):
        await world.tuner.run(desk)
    return desk


async def test_what_ends_and_what_fails_decides() -> None:
    desk = await tuned(World(useful=8))

    assert desk.sizes[:4] == [6, 9, 13, 9]
    assert set(desk.sizes[4:]) <= {9, 13}


@pytest.mark.parametrize(("late_s", "memory"), [(1.0, None), (0.0, 0.97)])
async def test_a_late_clock_and_scarce_memory_take_slots_away(late_s: float, memory: float | None) -> None:
    desk = await tuned(World(useful=100, late_s=late_s), memory)

    assert desk.sizes == [3, 2, 1]


async def test_a_worker_on_auto_does_more_at_a_time_where_more_gets_done(
    working: Any, outputs: Any, monkeypatch: pytest.MonkeyPatch, fast_path: bool
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr("stepflow_grpc.worker.tuning._SHORTEST_S", 0.0)
    app = Components()
    at_once = most = 0

    @app.component("/ask")
    async def ask(n: int) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.002)
        at_once -= 1
        return n

    async with working(app, max_concurrent="auto", fast_path=fast_path) as worker:
        first = worker.slots
        found = await outputs(["/w/ask"], list(range(300)))

    assert found == list(range(300))
    assert first == 4
    assert most > first


def test_the_share_of_memory_is_a_share() -> None:
    share = memory_share()

    assert share is None or 0.0 < share < 1.5
