"""Components played by a script: what each call is answered with, and what it was asked."""

import copy
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import anyio
from msgspec.structs import replace

from stepflow.execution.dispatch import Dispatcher, PluginSource
from stepflow.plan.suggest import did_you_mean
from stepflow.plugins.failure import failed_by
from stepflow.plugins.normal import NotJsonError, normalise
from stepflow.protocols import Host
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Succeeded, Task
from stepflow.routing.table import RouteTable

Answer: TypeAlias = Any
"""What one call is answered with: an output, a `Succeeded` or `Failed`, an exception that the component raises, or a
function of the input that gives or raises any of these (it may be `async`)."""


class UnscriptedError(AssertionError):
    """A flow called something that the test neither scripts nor registers, or called it more often than scripted."""


class Script:
    """The answers of one component, in the order of its calls. A function alone answers every call."""

    def __init__(self, path: str, answers: Sequence[Answer] | Callable[[Json], Answer]) -> None:
        if not callable(answers) and (isinstance(answers, str | bytes) or not isinstance(answers, Sequence)):
            kind = type(answers).__name__
            raise TypeError(f"a script is a list with an answer for each call, or one function for all, not a {kind}")
        self.path = path
        self._always = answers if callable(answers) else None
        self._answers = () if callable(answers) else tuple(answers)
        self._played = 0

    def next(self) -> Answer:
        """Raises: UnscriptedError: there were as many calls as answers before."""
        if self._always is not None:
            return self._always
        self._played += 1
        if self._played > len(self._answers):
            raise UnscriptedError(
                f"{self.path} was called {_times(self._played)}, but {_outcomes(len(self._answers))} scripted for it"
            )
        return self._answers[self._played - 1]


class ScriptedPlugin:
    """Answers for every component there is: by its script, else through the routes of the application.

    Args:
        table: routes over `sources`, for what is not scripted.
    """

    def __init__(self, table: RouteTable, sources: Mapping[str, PluginSource]) -> None:
        self.scripts: dict[str, Script] = {}
        self.calls: dict[str, list[Json]] = {}
        self.faults: list[str] = []  # what the test has to be told, each once
        self._table = table
        self._sources = sources

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            self._dispatcher = Dispatcher(self._table, self._sources, tasks)
            yield
            tasks.cancel_scope.cancel()

    def open(self) -> AbstractAsyncContextManager[None]:
        return self._open()

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo] | None:
        return None

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        return None

    async def perform(self, task: Task, host: Host) -> Outcome:
        self.calls.setdefault(task.component, []).append(copy.deepcopy(task.input))
        script = self.scripts.get(task.component)
        if script is None:
            return await self._registered(task, host)
        try:
            return await _play(script.next(), task.input)
        except UnscriptedError as error:
            return self._fault(str(error), ErrorCode.COMPONENT_FAILED)

    async def _registered(self, task: Task, host: Host) -> Outcome:
        way = await self._dispatcher.way(task.component, task.input, lambda reason: host.waiting(task, reason))
        if not isinstance(way, Failed):
            called = replace(task, target=way.target, path_params=way.path_params, params=way.params)
            return await way.plugin.perform(called, host)
        if way.code not in (ErrorCode.COMPONENT_NOT_FOUND, ErrorCode.ORCHESTRATOR_ERROR):
            return way
        near = did_you_mean(task.component, self.scripts)
        hint = f"; did you script {near} for it?" if near else f'; script it: script("{task.component}", […])'
        return self._fault(
            f"the step {task.step_id!r} calls {task.component}, which is neither scripted nor registered{hint} "
            f"({way.message})",
            way.code,
        )

    def _fault(self, message: str, code: ErrorCode) -> Failed:
        if message not in self.faults:
            self.faults.append(message)
        return Failed(code, message, may_retry=False)


async def _play(answer: Answer, input: Json) -> Outcome:
    try:
        if callable(answer) and not isinstance(answer, type):
            answer = answer(copy.deepcopy(input))
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
            raise answer
    except Exception as error:
        if isinstance(error, UnscriptedError):
            raise
        return failed_by(error)
    if isinstance(answer, Failed | Succeeded):
        return answer
    try:
        return Succeeded(normalise(answer))
    except NotJsonError as error:
        return Failed(ErrorCode.COMPONENT_FAILED, f"the scripted answer is not JSON: {error}")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _outcomes(count: int) -> str:
    return {0: "nothing is", 1: "1 answer is"}.get(count, f"{count} answers are")
