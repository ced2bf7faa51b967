"""Deadlines: each is told of once, at its time, and none is over because the process did not get to run."""

from math import inf

import anyio
import pytest

from stepflow.testing.clock import TurnedClock
from stepflow_grpc.queues.deadlines import TICK_S, Deadlines

pytestmark = pytest.mark.anyio


class Watched:
    due_at = inf


class Late(TurnedClock):
    """It shows more than its sleeps took, as for a process that was held up."""

    held_up_s = 0.0

    def now(self) -> float:
        return super().now() + self.held_up_s


async def test_of_two_times_the_earlier_holds_and_it_is_told_of_once() -> None:
    clock = TurnedClock()
    deadlines: Deadlines[Watched] = Deadlines(clock)
    one, other = Watched(), Watched()
    start = deadlines.now()
    deadlines.set(one, start + 5)
    deadlines.set(other, start + 3)
    deadlines.set(one, start + 2)
    deadlines.set(one, start + 9)

    await deadlines.wait()
    first = deadlines.due(), clock.elapsed_s
    await deadlines.wait()
    second = deadlines.due(), clock.elapsed_s
    await clock.sleep(10)

    assert first == ([one], pytest.approx(2))
    assert second == ([other], pytest.approx(3))
    assert deadlines.due() == []
    assert (one.due_at, other.due_at) == (inf, inf)


async def test_what_is_dropped_is_told_of_no_more_and_may_be_set_again() -> None:
    clock = TurnedClock()
    deadlines: Deadlines[Watched] = Deadlines(clock)
    dropped, again = Watched(), Watched()
    start = deadlines.now()
    for one in (dropped, again):
        deadlines.set(one, start + 1)
        deadlines.drop(one)
        deadlines.drop(one)
    deadlines.set(again, start + 4)

    found = await _next(deadlines)

    assert found == [again]
    assert clock.elapsed_s == pytest.approx(4)


async def test_what_was_dropped_is_not_kept() -> None:
    deadlines: Deadlines[Watched] = Deadlines(TurnedClock())
    last = Watched()
    deadlines.set(last, deadlines.now() + 1)

    for number in range(1_000):
        one = Watched()
        deadlines.set(one, deadlines.now() + 2 + number)
        deadlines.drop(one)

    assert len(deadlines._heap) < 200
    assert (await _next(deadlines)) == [last]


async def test_an_earlier_deadline_wakes_whoever_waits_for_a_later_one() -> None:
    clock = TurnedClock()
    deadlines: Deadlines[Watched] = Deadlines(clock)
    late, early = Watched(), Watched()
    found: list[Watched] = []

    async def look() -> None:
        found.extend(await _next(deadlines))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await clock.sleep(100)
        deadlines.set(late, deadlines.now() + 50)
        await clock.sleep(1.1)
        deadlines.set(early, deadlines.now() + 0.1)

    assert found == [early]
    assert clock.elapsed_s == pytest.approx(101.2)


@pytest.mark.parametrize(("held_up_at", "looked_at"), [(1.0, 3.0), (2.9, 3.0 + TICK_S)])
async def test_a_look_that_came_late_moves_every_deadline_and_gives_time_to_hear(
    held_up_at: float, looked_at: float
) -> None:
    clock = Late()
    clock.manual()
    deadlines: Deadlines[Watched] = Deadlines(clock)
    one = Watched()
    deadlines.set(one, deadlines.now() + 3)
    found: list[Watched] = []

    async def look() -> None:
        found.extend(await _next(deadlines))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await clock.advance(held_up_at)
        clock.held_up_s = 60.0
        await clock.advance(looked_at - 0.1 - held_up_at)
        before = list(found)
        await clock.advance(0.2)
        tasks.cancel_scope.cancel()

    assert before == []
    assert found == [one]


async def _next(deadlines: Deadlines[Watched]) -> list[Watched]:
    """What is told of next; a look may find nothing."""
    while True:
        await deadlines.wait()
        if found := deadlines.due():
            return found
