"""Inputs on their way into a run: a list is admitted whole, anything else a chunk at a time."""

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing

import anyio
import anyio.lowlevel

from stepflow.errors import InputInvalidError, Problem
from stepflow.execution.events import InputsClosed, ItemEnded, ItemsAdmitted
from stepflow.execution.executor import Executor
from stepflow.execution.live import LiveRun
from stepflow.execution.resume import Source
from stepflow.execution.runners import FEED_BELOW
from stepflow.execution.submission import input_problem, input_problems, refusal
from stepflow.flow.schema import SchemaValidator
from stepflow.protocols import Clock
from stepflow.records import ErrorCode, Failed, Json, RunStatus

logger = logging.getLogger("stepflow.run")


def whole_inputs(
    inputs: Sequence[Json], plain: Callable[[Json], Json], checker: SchemaValidator | None, *, is_strict: bool
) -> list[Json]:
    """A list's inputs as plain JSON that nobody else changes.

    Args:
        plain: copies one input, and raises ValueError where it is no JSON.

    Raises:
        InputInvalidError: an input is no JSON, or (`is_strict`) does not fit the schema. Every one is named.
    """
    found: list[Json] = []
    wrong: list[Problem] = []
    for index, input in enumerate(inputs):
        try:
            found.append(plain(input))
        except ValueError as error:
            wrong.append(Problem(message=f"item {index}: {error}"))
    misfits = () if checker is None else input_problems(found, checker)
    if wrong or (misfits and is_strict):
        raise InputInvalidError([*wrong, *misfits])
    for problem in misfits:
        logger.warning("%s", refusal(problem))
    return found


class Feeder:
    """Admits streamed inputs as fast as items begin. An input that does not fit is a failed item."""

    def __init__(
        self,
        run: LiveRun,
        *,
        executor: Executor,
        clock: Clock,
        plain: Callable[[Json], Json],
        checker: SchemaValidator | None,
        is_strict: bool,
        may_go_on: bool,
        admitted: int = 0,
    ) -> None:
        self._run = run
        self._executor = executor
        self._clock = clock
        self._plain = plain
        self._checker = checker
        self._is_strict = is_strict
        self._may_go_on = may_go_on
        self._count = admitted

    async def feed(self, inputs: Source) -> None:
        """Admit every input. The run's end stops it, also where the next input is waited for."""
        run = self._run
        try:
            with run.until_ended():
                await self._feed(inputs)
        except anyio.get_cancelled_exc_class():
            await anyio.lowlevel.checkpoint_if_cancelled()
            self._break_off(RuntimeError("the iterable was cancelled"))  # it raised that by itself, as asyncio allows
        except Exception as error:
            shows = run.redactor is None  # the error's text may hold a secret
            logger.info("run %s: its inputs broke off after %d", run.id, self._count, exc_info=shows)
            self._break_off(error)

    async def _feed(self, inputs: Source) -> None:
        run = self._run
        async with aclosing(inputs):
            while chunk := await inputs.take():
                if run.state.has_ended:
                    return
                self._admit(chunk)
                if not await self._has_room():
                    return
        if run.state.has_ended:
            return
        run.is_fed = False
        run.apply(InputsClosed(self._count))
        self._executor.begin_again(run)

    def _break_off(self, error: Exception) -> None:
        run = self._run
        if run.state.has_ended or run.ended.is_set():
            return
        if self._may_go_on:
            run.is_fed = False
            run.broken_off = error
            run.notify()
            return
        run.lost = error
        message = f"the inputs broke off with {type(error).__name__}: {error}"
        self._executor.end(run, RunStatus.FAILED, Failed(ErrorCode.CANCELLED, message))

    async def _has_room(self) -> bool:
        """Wait until few inputs are left to begin. False: the run has ended meanwhile."""
        run, state = self._run, self._run.state
        while state.admitted - state.opened >= FEED_BELOW and not state.has_ended:
            run.hungry = anyio.Event()
            await run.hungry.wait()
        return not state.has_ended

    def _admit(self, chunk: Sequence[Json]) -> None:
        run, first = self._run, self._count
        plain: list[Json] = []
        refused: list[ItemEnded] = []
        at = run.elapsed_ms(self._clock.now())
        for offset, input in enumerate(chunk):
            value, wrong = self._checked(first + offset, input)
            plain.append(value)
            if wrong is not None:
                refused.append(ItemEnded(first + offset, Failed(ErrorCode.INVALID_INPUT, wrong), at))
        run.apply(ItemsAdmitted(first, plain))
        for ended in refused:
            run.apply_end(ended)
        self._count += len(chunk)
        self._executor.mark_dirty(run)

    def _checked(self, index: int, input: Json) -> tuple[Json, str | None]:
        try:
            value = self._plain(input)
        except ValueError as error:
            return None, f"item {index}: {error}"
        problem = None if self._checker is None else input_problem(index, value, self._checker)
        if problem is None or self._is_strict:
            return value, None if problem is None else refusal(problem)
        logger.warning("%s", refusal(problem))
        return value, None
