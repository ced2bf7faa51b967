"""A registry's lifespan: entered where components run, left when they no longer do."""

import inspect
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import copy_context
from typing import Any

import anyio
import anyio.to_thread

from stepflow.clock import SystemClock
from stepflow.components import Components, Lifespan
from stepflow.plugins.stepping import go_on


@asynccontextmanager
async def entered(registry: Components) -> AsyncIterator[Any]:
    """What the lifespan yields. A plain context manager is entered and left in a worker thread."""
    if registry.lifespan is None:
        yield None
        return
    manager = _manager(registry.lifespan, registry)
    if isinstance(manager, AbstractAsyncContextManager):
        state = await manager.__aenter__()
        leave = manager.__aexit__
    else:
        state = await anyio.to_thread.run_sync(manager.__enter__)
        leave = _leaving_in_thread(manager)
    try:
        yield state
    finally:
        await _to_its_end(leave(None, None, None))


def _manager(lifespan: Lifespan, registry: Components) -> Any:
    if inspect.isasyncgenfunction(lifespan):
        lifespan = asynccontextmanager(lifespan)
    elif inspect.isgeneratorfunction(lifespan):
        lifespan = contextmanager(lifespan)
    manager = lifespan(registry) if _takes_one(lifespan) else lifespan()
    if not hasattr(manager, "__aenter__") and not hasattr(manager, "__enter__"):
        raise TypeError(
            f"the lifespan gave {type(manager).__name__}, not a context manager; decorate it with asynccontextmanager"
        )
    return manager


def _takes_one(lifespan: Lifespan) -> bool:
    try:
        parameters = inspect.signature(lifespan).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(parameter.kind in positional and parameter.default is parameter.empty for parameter in parameters)


def _leaving_in_thread(manager: Any) -> Any:
    async def leave(*exc: None) -> None:
        await anyio.to_thread.run_sync(manager.__exit__, *exc)

    return leave


async def _to_its_end(leaving: Coroutine[Any, Any, Any]) -> None:
    """Leave in peace, though whoever leaves was cancelled: the code after its `yield` is no error handling."""
    context = copy_context()
    try:
        trap = context.run(leaving.send, None)
    except StopIteration:
        return
    await go_on(leaving, context, trap, SystemClock(), is_cancelled=True)
