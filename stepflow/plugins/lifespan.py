"""A registry's lifespan: entered where components run, left when they no longer do."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from stepflow.components import Components, Lifespan
from stepflow.plugins.stepping import GRACE_S


@asynccontextmanager
async def entered(registry: Components) -> AsyncIterator[Any]:
    """What the lifespan yields. A plain context manager is entered and left in a worker thread."""
    if registry.lifespan is None:
        yield None
        return
    manager = _manager(registry.lifespan, registry)
    enter, leave = _doors(manager)
    with anyio.CancelScope() as scope:  # around what the lifespan opens, so that scopes stay properly nested
        state = await enter()
        try:
            yield state
        finally:  # the code after its `yield` is no error handling, so it runs whoever leaves and why
            scope.shield = True
            scope.deadline = anyio.current_time() + GRACE_S  # noqa: TID251 - deadlines of scopes are in the loop's time
            await leave(None, None, None)


def _doors(manager: Any) -> tuple[Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]]:
    if hasattr(manager, "__aenter__"):
        return manager.__aenter__, manager.__aexit__
    run_sync = anyio.to_thread.run_sync
    return partial(run_sync, manager.__enter__), partial(run_sync, manager.__exit__)


def _manager(lifespan: Lifespan, registry: Components) -> Any:
    if inspect.isasyncgenfunction(lifespan):
        lifespan = asynccontextmanager(lifespan)
    elif inspect.isgeneratorfunction(lifespan):
        lifespan = contextmanager(lifespan)
    manager = lifespan(registry) if _takes_one(lifespan) else lifespan()
    if inspect.iscoroutine(manager):
        manager.close()
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
