"""A turned clock on both loops: it jumps, it waits for work in flight, it obeys a hand."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from stepflow.testing.clock import START, TurnedClock, turned_backend

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return turned_backend(request.param)


async def test_ten_hours_pass_at_once() -> None:
    clock = TurnedClock()

    await clock.sleep(36_000)

    assert clock.elapsed_s == 36_000
    assert clock.now() == START + 36_000


async def test_timers_fire_in_their_order() -> None:
    clock = TurnedClock()
    fired: list[tuple[float, float]] = []

    async def wait(seconds: float) -> None:
        await clock.sleep(seconds)
        fired.append((seconds, clock.elapsed_s))

    async with anyio.create_task_group() as tasks:
        for seconds in (3, 1, 100_000, 2):
            tasks.start_soon(wait, seconds)

    assert fired == [(1, 1), (2, 2), (3, 3), (100_000, 100_000)]


async def test_a_timeout_cancels_without_raising() -> None:
    clock = TurnedClock()

    with clock.timeout(5) as scope:
        await clock.sleep(60)

    assert scope.cancelled_caught
    assert clock.elapsed_s == 5


async def test_work_marked_busy_holds_the_time() -> None:
    clock = TurnedClock()
    begun, end = threading.Event(), threading.Event()
    late: list[float] = []

    def work() -> None:
        begun.set()
        end.wait(60)

    async def wait() -> None:
        await clock.sleep(3600)
        late.append(clock.elapsed_s)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        with clock.busy():
            async with anyio.create_task_group() as threads:
                threads.start_soon(anyio.to_thread.run_sync, work)
                while not begun.is_set():
                    await anyio.lowlevel.checkpoint()
                end.set()
            seen = clock.elapsed_s

    assert seen == 0
    assert late == [3600]


async def test_a_hand_turns_the_clock_timer_by_timer() -> None:
    clock = TurnedClock()
    ticks: list[float] = []

    async def tick() -> None:
        for _ in range(4):
            await clock.sleep(10)
            ticks.append(clock.elapsed_s)

    clock.manual()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await clock.advance(5)
        before = list(ticks)
        await clock.advance(20)
        between = list(ticks)
        clock.automatic()

    assert before == []
    assert between == [10, 20]
    assert ticks == [10, 20, 30, 40]


async def test_a_clock_that_turns_itself_is_not_turned_by_hand() -> None:
    clock = TurnedClock()

    with pytest.raises(RuntimeError, match=r"call clock\.manual\(\)"):
        await clock.advance(1)


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
async def test_time_goes_forward_by_finite_amounts(seconds: float) -> None:
    clock = TurnedClock()
    clock.manual()

    with pytest.raises(ValueError, match="finite number of seconds"):
        await clock.advance(seconds)


@pytest.mark.parametrize("run", [asyncio.run, lambda main: anyio.run(main, backend="trio")])
def test_a_loop_with_real_time_is_refused(run: Callable[..., None]) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="needs a loop with virtual time"):
            TurnedClock()

    run(main) if run is not asyncio.run else run(main())
