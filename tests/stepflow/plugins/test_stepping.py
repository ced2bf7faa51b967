import asyncio
from contextlib import suppress
from contextvars import ContextVar

import anyio
import pytest

from stepflow.plugins.stepping import GRACE_S, Stepper
from stepflow.testing.clock import TurnedClock, turned_backend

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(anyio_backend: str):
    return turned_backend(anyio_backend)


@pytest.fixture
async def clock(anyio_backend) -> TurnedClock:
    return TurnedClock()


async def test_it_gives_what_the_coroutine_returns(clock):
    async def at_once():
        return 1

    async def later():
        await anyio.sleep(1)
        return 2

    assert await Stepper().step(at_once()) == 1
    assert await Stepper().step(later()) == 2
    assert clock.elapsed_s == 1


async def test_it_raises_what_the_coroutine_raises(clock):
    async def later():
        await anyio.sleep(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Stepper().step(later())


async def test_context_variables_do_not_leak_out(clock):
    async def rename():
        NAME.set("somebody")
        await anyio.sleep(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(see)
        return NAME.get()

    async def see():
        seen.append(NAME.get())

    seen: list[str] = []

    assert await Stepper().step(rename()) == "somebody"
    assert seen == ["somebody"]
    assert NAME.get() == "nobody"


async def test_scopes_of_the_coroutine_work(clock):
    async def patient():
        with anyio.move_on_after(3) as scope:
            await anyio.sleep(10)
        with pytest.raises(TimeoutError):
            with anyio.fail_after(2):
                await anyio.sleep(10)
        await anyio.sleep(20)
        return scope.cancelled_caught

    assert await Stepper().step(patient()) is True
    assert clock.elapsed_s == 25


async def test_a_cancelled_coroutine_cleans_up_in_time(clock):
    cleaned: list[str] = []

    async def work():
        try:
            await anyio.sleep(100)
        finally:
            await anyio.sleep(1)
            with anyio.move_on_after(1):
                await anyio.sleep(100)
            with anyio.move_on_after(1, shield=True):
                await anyio.sleep(100)
            cleaned.append("all")

    with anyio.move_on_after(10) as scope:
        await Stepper().step(work())

    assert scope.cancelled_caught
    assert cleaned == ["all"]
    assert clock.elapsed_s == 13


async def test_a_clean_up_that_takes_too_long_is_cancelled(clock):
    async def work():
        try:
            await anyio.sleep(100)
        finally:
            await anyio.sleep(100)

    with anyio.move_on_after(10) as scope:
        await Stepper().step(work())

    assert scope.cancelled_caught
    assert clock.elapsed_s == 10 + GRACE_S


async def test_a_coroutine_that_swallows_every_cancellation_is_closed(clock):
    async def stubborn():
        while True:
            try:
                await anyio.sleep(100)
            except anyio.get_cancelled_exc_class():
                pass

    with anyio.move_on_after(10) as scope:
        await Stepper().step(stubborn())

    assert scope.cancelled_caught
    assert clock.elapsed_s == 10 + GRACE_S


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_coroutine_that_ignores_even_its_closing_is_left(clock):
    async def stubborn():
        while not is_over:
            with suppress(BaseException):
                await asyncio.sleep(100)

    is_over: list[int] = []
    try:
        with anyio.move_on_after(10) as scope:
            await Stepper().step(stubborn())
    finally:
        is_over.append(1)

    assert scope.cancelled_caught


async def test_a_timeout_of_its_own_starts_no_grace(clock):
    async def tries():
        for _ in range(10):
            with anyio.move_on_after(1):
                await anyio.sleep(100)
            await anyio.sleep(1)
        return "done"

    assert await Stepper().step(tries()) == "done"
    assert clock.elapsed_s == 20


async def test_a_cancelled_coroutine_may_use_task_groups_to_clean_up(clock):
    cleaned: list[int] = []

    async def clean(number: int):
        await anyio.sleep(number)
        cleaned.append(number)

    async def work():
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep, 100)
        finally:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(clean, 1)

    with anyio.move_on_after(10):
        await Stepper().step(work())

    assert clock.elapsed_s <= 10 + GRACE_S


async def test_many_timeouts_with_clean_ups_inside_are_no_cancellation(clock):
    async def tries():
        for _ in range(300):
            with anyio.move_on_after(1):
                try:
                    await anyio.sleep(100)
                finally:
                    await anyio.sleep(0.1)
            await anyio.sleep(1)
        return "done"

    assert await Stepper().step(tries()) == "done"


async def test_timeouts_of_asyncio_work_inside(clock, anyio_backend):
    if anyio_backend[0] != "asyncio":
        return

    async def work():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(100)
        await asyncio.sleep(20)
        return "done"

    assert await Stepper().step(work()) == "done"


async def test_a_cancelled_coroutine_does_not_go_on_behind_its_task_group(clock):
    came_by: list[str] = []

    async def grouped():
        try:
            async with anyio.create_task_group():
                await anyio.sleep_forever()
            came_by.append("behind")
        finally:
            await anyio.sleep(1)
            came_by.append("cleaned up")
        return "as if all were well"

    with anyio.move_on_after(1) as scope:
        await Stepper().step(grouped())

    assert scope.cancelled_caught
    assert came_by == ["cleaned up"]
    assert clock.elapsed_s == 2
