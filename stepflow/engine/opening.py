"""Opening and closing an engine."""

import logging
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from stepflow.engine.parts import Parts, wired
from stepflow.engine.setup import Setup
from stepflow.errors import EngineClosedError, StoreError
from stepflow.protocols import Backend
from stepflow.records import EngineRecord
from stepflow.stores.apart import whereabouts

logger = logging.getLogger("stepflow.engine")

CLOSING_S = 5.0
"""How long closing waits for the store to learn of it."""

_CLOSED = "the engine was closed before the run ended"


class OpenedEngine:
    """An engine as something that is opened and closed. Everything but that needs it open."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._tasks: TaskGroup
        self._stack: AsyncExitStack | None = None
        self._opened: Parts | None = None
        self._failure: Exception | None = None  # what it ended by

    @property
    def backend(self) -> Backend:
        """Where its runs are kept."""
        return self._setup.backend

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise EngineClosedError("the engine is open already; make another one for another `async with`")
        self._failure = None
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.backend)
                self._tasks = await stack.enter_async_context(anyio.create_task_group())
                self._opened = await self._start()
                self._stack = stack.pop_all()
        except BaseExceptionGroup as group:
            raise _innermost(group) from None
        return self

    async def _start(self) -> Parts:
        parts = wired(self._setup, self._tasks)
        await parts.membership.enter()
        if self.backend.is_durable:
            await self._agree_on_blobs(parts)
        await self._tasks.start(parts.executor.serve)
        self._tasks.start_soon(parts.membership.serve)
        await parts.membership.recover_at_start()
        return parts

    async def _agree_on_blobs(self, parts: Parts) -> None:
        group, owner = self._setup.identity.group, parts.membership.owner

        async def others() -> list[EngineRecord]:
            engines = await self.backend.owners.engines()
            return [each for each in engines if each.group == group and each.owner != owner]

        drawn = self._setup.chance.run_id(self._setup.clock.now())
        try:
            await whereabouts(self.backend).agree(group, drawn, others)
        except StoreError:
            await parts.membership.leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        parts, stack = self._parts, self._stack
        assert stack is not None
        self._stack = self._opened = None
        await self._let_go(parts)
        self._failure = parts.executor.failure
        self._tasks.cancel_scope.cancel()
        try:
            await stack.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            raise _innermost(group) from None

    @property
    def _parts(self) -> Parts:
        """Raises: EngineClosedError."""
        if self._opened is not None:
            return self._opened
        if self._failure is not None:
            raise EngineClosedError(f"the engine has ended, since {_reason(self._failure)}; open another one")
        raise EngineClosedError("the engine is not open: use it inside `async with Engine(…) as engine:`")

    async def _let_go(self, parts: Parts) -> None:
        """Set the runs that are under way free for others; a store that fails can't delay it long."""
        with self._setup.clock.timeout(CLOSING_S, shield=True) as time:
            try:
                if self.backend.is_durable or self.backend.is_shared:
                    await parts.executor.release()
                parts.executor.close(_closed(parts))
                await parts.membership.leave()
            except StoreError as error:
                logger.warning("the store was not told that this engine closes: %s", error)
        if time.cancelled_caught:
            logger.warning("the store was not told within %g s that this engine closes", CLOSING_S)
        parts.executor.close(_closed(parts))


def _closed(parts: Parts) -> EngineClosedError:
    """What whoever waits for a run is told."""
    failure = parts.executor.failure
    if failure is None:
        return EngineClosedError(_CLOSED)
    return EngineClosedError(f"{_CLOSED}: {_reason(failure)}")


def _reason(failure: Exception) -> str:
    return f"what happened can't be recorded: {type(failure).__name__}: {failure}"


def _innermost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception that a group wraps; the group itself where there are several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
