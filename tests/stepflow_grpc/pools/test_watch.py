from collections.abc import Sequence

import pytest

from stepflow.clock import SystemClock
from stepflow_grpc.pools.board import QueueRow
from stepflow_grpc.pools.pool import Pool
from stepflow_grpc.pools.pools import PoolState
from stepflow_grpc.pools.restarts import Death
from stepflow_grpc.pools.watch import LOOKS_S, PATIENCE_S, watch

pytestmark = pytest.mark.anyio


class Over(Exception):
    """There is nothing more to see."""


class Scene(SystemClock):
    """How many workers one queue has at each look. Time passes only between looks."""

    def __init__(self, *workers: int, crashing: bool = False) -> None:
        self._workers = list(workers)
        self._looks = 0
        pool = Pool("q", "m:app", replicas=20)
        death = Death("exit code 1", 0.0, 0.1)
        self._state = PoolState(pool, 20, int(crashing), 0, 0.0, death if crashing else None)
        self.told: list[str] = []
        self.explained: dict[str, str | None] = {}

    def now(self) -> float:
        return self._looks * LOOKS_S

    async def sleep(self, seconds: float) -> None:
        self._looks += 1
        if self._looks == len(self._workers):
            raise Over

    def rows(self) -> Sequence[QueueRow]:
        workers = self._workers[self._looks]
        return [QueueRow("q", ("/",), workers, workers, (self._state,))]

    async def play(self) -> list[str]:
        with pytest.raises(Over):
            await watch(self.rows, self.explained.__setitem__, self.told.append, self, "127.0.0.1:7840")
        return self.told


async def test_a_change_is_told_once_it_has_held_for_a_look() -> None:
    assert await Scene(0, 0, 20, 20, 20).play() == ["queue q: 20 workers, 20 slots"]


async def test_workers_that_come_one_by_one_are_not_a_line_each() -> None:
    told = await Scene(*range(21), 20, 20).play()

    assert len(told) <= 1 + 20 * LOOKS_S / PATIENCE_S
    assert told[-1] == "queue q: 20 workers, 20 slots"


async def test_what_goes_back_to_what_was_told_is_no_change() -> None:
    assert await Scene(20, 19, 20, 20, 20).play() == []


async def test_why_a_queue_is_unserved_is_told_at_every_look_to_those_who_wait() -> None:
    scene = Scene(0, 0, 0, crashing=True)

    await scene.play()

    assert scene.explained == {"q": "its pool crashes as it starts: exit code 1 (1 of 20 workers)"}


async def test_a_served_queue_needs_no_explanation() -> None:
    scene = Scene(0, 1, 1, crashing=True)

    await scene.play()

    assert scene.explained == {"q": None}
