"""A bell wakes whoever waits for it, on either loop, and may be rung more than once."""

import anyio
import pytest

from stepflow_grpc.queues.bell import bells, ring, rung

pytestmark = pytest.mark.anyio


async def test_who_waits_is_woken_by_the_ring_and_not_before() -> None:
    bell = bells()()
    heard: list[str] = []

    async def wait() -> None:
        await rung(bell)
        heard.append("rung")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        before = list(heard)
        ring(bell)

    assert before == []
    assert heard == ["rung"]


async def test_a_bell_that_was_rung_holds_nobody_up_and_may_be_rung_again() -> None:
    bell = bells()()

    ring(bell)
    ring(bell)

    with anyio.fail_after(60):
        await rung(bell)


async def test_a_bell_may_be_rung_whose_waiter_has_gone() -> None:
    bell = bells()()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await rung(bell)

    ring(bell)

    assert scope.cancelled_caught


async def test_each_bell_is_its_own() -> None:
    make = bells()
    one, other = make(), make()

    ring(one)

    with anyio.move_on_after(5) as waiting:
        await rung(other)
    assert waiting.cancelled_caught
