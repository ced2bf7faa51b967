"""User coroutines, stepped in a context of their own; when they are cancelled they have time to clean up."""

import sys
from collections.abc import Coroutine, Generator
from contextlib import suppress
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
    grace = None if scope is None else _Grace(scope)
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
        if cancellation is not None and grace is not None:
            grace.begin()
            ignored += grace.is_over
            if ignored > _MAX_IGNORED:
                with suppress(RuntimeError):  # it ignores even this
                    coro.close()
                raise cancellation
        try:
            trap = context.run(coro.send, answer) if error is None else context.run(coro.throw, error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if grace is not None and grace.has_begun:
            grace.shield()


class _Grace:
    """The time that a cancelled coroutine has to clean up: its scope becomes a shield, until its deadline.

    Not while the coroutine is inside a task group of its own: Trio's would take a cancellation that it can't see for
    its own, and the coroutine would go on behind it as if its children had ended well.
    """

    __slots__ = ("has_begun", "scope")

    def __init__(self, scope: anyio.CancelScope) -> None:
        self.scope = scope
        self.has_begun = False

    @property
    def is_over(self) -> bool:
        """Whether every cancellation from now on is one too many."""
        return self.scope.cancel_called or (self.has_begun and not self.scope.shield)

    def begin(self) -> None:
        """Begin, if it is something around the scope that was cancelled and not a scope inside."""
        scope = self.scope
        if self.has_begun or anyio.current_effective_deadline() != -inf:
            return
        scope.shield = True
        is_inside = anyio.current_effective_deadline() == -inf
        scope.shield = False
        if not is_inside:
            self.has_begun = True
            scope.deadline = anyio.current_time() + GRACE_S  # noqa: TID251 - deadlines of scopes are in the loop's time
            self.shield()

    def shield(self) -> None:
        if not self.scope.shield and not _is_in_nursery():
            self.scope.shield = True


def _is_in_nursery() -> bool:
    """Whether the current task is inside a task group of Trio."""
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        return bool(trio.lowlevel.current_task().child_nurseries)
    except RuntimeError:  # another loop is running
        return False


def _cancellation(answer: Any, error: BaseException | None) -> BaseException | None:
    """The cancellation that is about to reach the coroutine: asyncio throws it, Trio sends it inside an outcome."""
    raised = error if error is not None else getattr(answer, "error", None)
    return raised if isinstance(raised, anyio.get_cancelled_exc_class()) else None
