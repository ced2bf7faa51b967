"""Slots whose number changes while they are in use."""

import anyio
import pytest

from stepflow_grpc.worker.slots import Slots

pytestmark = pytest.mark.anyio


async def test_more_slots_let_those_in_first_who_want_theirs_again() -> None:
    slots = Slots(1)
    slots.take()
    back: list[int] = []

    async def return_(number: int) -> None:
        await slots.take_again()
        back.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(return_, number)
            await anyio.wait_all_tasks_blocked()
        slots.resize(3)
        await anyio.wait_all_tasks_blocked()
        came = list(back)
        slots.give_back()

    assert came == [0, 1]
    assert back == [0, 1, 2]
    assert (slots.taken, slots.free) == (3, 0)


async def test_fewer_slots_take_none_away_and_give_none_out_until_enough_came_back() -> None:
    slots = Slots(3)
    for _ in range(3):
        slots.take()
    slots.resize(1)
    free = [slots.free]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slots.take_again)
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            slots.give_back()
            free.append(slots.free)
        assert slots.taken == 1
        slots.give_back()

    assert free == [0, 0, 0]
    assert slots.taken == 1
