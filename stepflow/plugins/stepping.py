"""User coroutines, stepped in a context of their own; when they are cancelled they have time to clean up."""

from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from math import inf
from types import coroutine
from typing import Any, TypeVar

import anyio

from stepflow.protocols import Clock

T = TypeVar("T")

GRACE_S = 5.0
"""How long a cancelled coroutine may go on waiting."""

_MAX_IGNORED = 100
"""How many cancellations a coroutine may swallow after its grace before it is closed."""


async def step(coro: Coroutine[Any, Any, T], clock: Clock) -> T:
    """Run a coroutine to its end in a copy of the current context."""
    context = copy_context()
    try:
        trap = context.run(coro.send, None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    return await go_on(coro, context, trap, clock)


@coroutine
def go_on(
    coro: Coroutine[Any, Any, T], context: Context, trap: Any, clock: Clock, *, is_cancelled: bool = False
) -> Generator[Any, Any, T]:
    """Run on a coroutine that was suspended by `trap`.

    After a cancellation reached it, what it waits for is shielded, for GRACE_S in all. The shield is put up after the
    coroutine was suspended and is taken down before it is resumed, so that scopes of its own stay properly nested.
    """
    grace_ends: float | None = None
    ignored = 0
    while True:
        shield_s = 0.0
        if is_cancelled:
            is_cancelled = anyio.current_effective_deadline() == -inf  # it may have been a scope of its own, now left
            grace_ends = (grace_ends or clock.now() + GRACE_S) if is_cancelled else None
            shield_s = grace_ends - clock.now() if grace_ends is not None else 0.0
        answer, error = yield from _wait(trap, shield_s, clock, coro)
        cancellation = _cancellation(answer, error)
        if cancellation is not None:
            is_cancelled = True
            ignored += grace_ends is not None
            if ignored > _MAX_IGNORED:
                coro.close()
                raise cancellation
        try:
            trap = context.run(coro.send, answer) if error is None else context.run(coro.throw, error)
        except StopIteration as stop:
            result: T = stop.value
            return result


def _wait(
    trap: Any, shield_s: float, clock: Clock, coro: Coroutine[Any, Any, Any]
) -> Generator[Any, Any, tuple[Any, BaseException | None]]:
    """Hand the trap to the event loop; its answer, or what it throws."""
    try:
        if shield_s <= 0:
            return (yield trap), None
        answer: tuple[Any, BaseException | None] = (None, None)
        with clock.timeout(shield_s, shield=True):
            try:
                answer = (yield trap), None
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - goes into the coroutine
                answer = None, error
    except GeneratorExit:
        coro.close()
        raise
    except BaseException as error:  # noqa: BLE001 - goes into the coroutine
        return None, error
    return answer


def _cancellation(answer: Any, error: BaseException | None) -> BaseException | None:
    """The cancellation that is about to reach the coroutine: asyncio throws it, Trio sends it inside an outcome."""
    raised = error if error is not None else getattr(answer, "error", None)
    return raised if isinstance(raised, anyio.get_cancelled_exc_class()) else None
