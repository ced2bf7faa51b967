import anyio
import pytest

from stepflow.plugins.held import HeldCall, Limit

pytestmark = pytest.mark.anyio


async def test_places_go_to_who_has_waited_longest():
    limit = Limit(1, "a place")
    order: list[int] = []

    async def hold(number: int) -> None:
        await limit.take()
        order.append(number)
        await anyio.lowlevel.checkpoint()
        limit.give_back()

    assert limit.take_now()
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(hold, number)
            await anyio.wait_all_tasks_blocked()
        limit.give_back()

    assert order == [0, 1, 2]
    assert limit.take_now()
    assert not limit.take_now()


@pytest.mark.parametrize("is_handed_over", [False, True])
async def test_who_is_cancelled_while_waiting_keeps_no_place(is_handed_over):
    limit = Limit(1, "a place")
    assert limit.take_now()

    async def take_and_give_back() -> None:
        await limit.take()
        limit.give_back()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_and_give_back)
        await anyio.wait_all_tasks_blocked()
        if is_handed_over:
            limit.give_back()
        tasks.cancel_scope.cancel()
    if not is_handed_over:
        limit.give_back()

    assert limit.take_now()


async def test_a_call_that_waits_for_several_things_takes_its_places_again_after_the_last(slots, task):
    limit = Limit(1, "a place")
    call = HeldCall(task("x"), slots, None, [limit])
    await call.take()

    async with call.released():
        async with call.released():
            assert limit.take_now()
            limit.give_back()
        assert limit.take_now()
        limit.give_back()

    assert not limit.take_now()
    call.give_back()
    assert limit.take_now()
