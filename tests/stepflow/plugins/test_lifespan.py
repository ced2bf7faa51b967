from contextlib import asynccontextmanager, contextmanager

import anyio
import pytest

from stepflow.components import Components, Context
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.records import Succeeded

pytestmark = pytest.mark.anyio

TOLD: list[str] = []


@pytest.fixture(autouse=True)
def told():
    TOLD.clear()
    return TOLD


async def async_generator():
    TOLD.append("enter")
    yield {"model": 1}
    await anyio.lowlevel.checkpoint()
    TOLD.append("leave")


def generator():
    TOLD.append("enter")
    yield {"model": 1}
    TOLD.append("leave")


async def with_the_registry(app):
    TOLD.append("enter")
    assert isinstance(app, Components)
    yield {"model": 1}
    TOLD.append("leave")


async def with_a_task_group():
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 1000)
        TOLD.append("enter")
        yield {"model": 1}
        TOLD.append("leave")
        tasks.cancel_scope.cancel()


class Manager:
    async def __aenter__(self):
        TOLD.append("enter")
        return {"model": 1}

    async def __aexit__(self, *exc):
        TOLD.append("leave")


@pytest.mark.parametrize(
    "lifespan",
    [
        async_generator,
        asynccontextmanager(async_generator),
        generator,
        contextmanager(generator),
        with_the_registry,
        with_a_task_group,
        Manager,
    ],
)
@pytest.mark.parametrize("cancelled", [False, True])
async def test_it_is_entered_once_and_left_even_when_cancelled(slots, task, lifespan, cancelled, told):
    app = Components(lifespan=lifespan)

    @app.component
    async def show(input, ctx: Context):
        return ctx.state

    @app.component
    def show_in_thread(input, ctx: Context):
        return ctx.state

    plugin = FunctionsPlugin(app)
    with anyio.CancelScope() as scope:
        async with plugin.open():
            assert await plugin.perform(task("show"), slots) == Succeeded({"model": 1})
            assert await plugin.perform(task("show_in_thread"), slots) == Succeeded({"model": 1})
            assert told == ["enter"]
            if cancelled:
                scope.cancel()
                await anyio.lowlevel.checkpoint()

    assert told == ["enter", "leave"]


async def test_failing_to_enter_fails_the_opening():
    async def broken():
        raise OSError("no model")
        yield

    with pytest.raises(OSError, match="no model"):
        async with FunctionsPlugin(Components(lifespan=broken)).open():
            pass


async def test_what_is_no_context_manager_is_named():
    async def forgot():
        return 1

    with pytest.raises(TypeError, match="decorate it with asynccontextmanager"):
        async with FunctionsPlugin(Components(lifespan=forgot)).open():
            pass


async def test_a_plugin_can_be_opened_again(slots, task):
    app = Components(lifespan=async_generator)

    @app.component
    async def show(input, ctx: Context):
        return ctx.state

    plugin = FunctionsPlugin(app)
    for _ in range(2):
        async with plugin.open():
            assert await plugin.perform(task("show"), slots) == Succeeded({"model": 1})

    assert TOLD == ["enter", "leave"] * 2
