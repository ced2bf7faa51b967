"""User coroutines, stepped in a context of their own; when they are cancelled they have time to clean up."""

from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from math import inf
from types import coroutine
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

T = TypeVar("T")

GRACE_S = 5.0
"""How long a cancelled coroutine may go on waiting."""

_QUIET_AFTER = 100
"""After so many calls of which none was suspended, a scope around the next ones is not worth its price."""

_MAX_IGNORED = 100
"""How many cancellations a coroutine may swallow after its grace before it is closed."""


class Stepper:
    """Steps the coroutines of one component.

    They run inside a scope that becomes a shield when a cancellation reaches them. A scope costs more than a coroutine
    that is never suspended, which is why those of a component that never suspends have none after a while.
    """

    __slots__ = ("_calls", "is_quiet")

    def __init__(self) -> None:
        self.is_quiet = False
        self._calls = 0

    async def step(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end in a copy of the current context."""
        context = copy_context()
        scope = None if self.is_quiet else anyio.CancelScope()
        if scope is None:
            return await self._run(coro, context, None)
        with scope:
            return await self._run(coro, context, scope)
        await anyio.lowlevel.checkpoint_if_cancelled()  # the grace is over, and what it held back goes on
        raise RuntimeError("the grace ended although nothing was cancelled")

    async def _run(self, coro: Coroutine[Any, Any, T], context: Context, scope: anyio.CancelScope | None) -> T:
        try:
            trap = context.run(coro.send, None)
        except StopIteration as stop:
            self._calls += 1
            self.is_quiet = self._calls >= _QUIET_AFTER
            result: T = stop.value
            return result
        self.suspended()
        return await go_on(coro, context, trap, scope)

    def suspended(self) -> None:
        """A coroutine of the component waits for something: from now on each has a scope."""
        self.is_quiet = False
        self._calls = -(2**62)


@coroutine
def go_on(
    coro: Coroutine[Any, Any, T], context: Context, trap: Any, scope: anyio.CancelScope | None
) -> Generator[Any, Any, T]:
    """Run on a coroutine that was suspended by `trap`, inside the scope that gives it grace."""
    ignored = 0
    while True:
        error: BaseException | None = None
        answer = None
        try:
            answer = yield trap
        except GeneratorExit:
            coro.close()
            raise
        except BaseException as raised:  # noqa: BLE001 - goes into the coroutine
            error = raised
        cancellation = _cancellation(answer, error)
        if cancellation is not None and scope is not None:
            _give_grace(scope)
            ignored += scope.cancel_called
            if ignored > _MAX_IGNORED:
                coro.close()
                raise cancellation
        try:
            trap = context.run(coro.send, answer) if error is None else context.run(coro.throw, error)
        except StopIteration as stop:
            result: T = stop.value
            return result


def _give_grace(scope: anyio.CancelScope) -> None:
    """Make the scope a shield, if it is something around it that was cancelled and not a scope inside."""
    if scope.shield or anyio.current_effective_deadline() != -inf:
        return
    scope.shield = True
    if anyio.current_effective_deadline() == -inf:
        scope.shield = False
        return
    scope.deadline = anyio.current_time() + GRACE_S  # noqa: TID251 - deadlines of scopes are in the loop's own time


def _cancellation(answer: Any, error: BaseException | None) -> BaseException | None:
    """The cancellation that is about to reach the coroutine: asyncio throws it, Trio sends it inside an outcome."""
    raised = error if error is not None else getattr(answer, "error", None)
    return raised if isinstance(raised, anyio.get_cancelled_exc_class()) else None
