"""The plugin that calls registered functions. Workers run exactly this."""

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, TypeAlias

import anyio
import anyio.from_thread
import msgspec
from anyio.abc import TaskGroup

from stepflow.components import Component, Components
from stepflow.context import Context
from stepflow.errors import InvalidInputError
from stepflow.plugins.failure import failed_by, is_cancellation
from stepflow.plugins.held import HeldCall, Limit
from stepflow.plugins.lifespan import entered
from stepflow.plugins.normal import NotJsonError, normalise
from stepflow.plugins.stepping import go_on, step
from stepflow.plugins.threads import Threads
from stepflow.protocols import Host
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Succeeded, Task
from stepflow.routing.trie import PathTrie
from stepflow.signature import converter

THREADS = 40
"""How many plain functions run at a time unless told otherwise."""

Perform: TypeAlias = Callable[[Task, Host], Coroutine[Any, Any, Outcome]]
Convert: TypeAlias = Callable[[Json], Any]


class _Opened:
    """What a plugin has while it is open."""

    __slots__ = ("state", "thread_limit", "threads")

    def __init__(self, state: Any, tasks: TaskGroup, threads: int) -> None:
        self.state = state
        self.threads = Threads(tasks)
        self.thread_limit = Limit(anyio.CapacityLimiter(threads), "a thread")


class FunctionsPlugin:
    """Answers for the components of a registry, in this process or in processes of its own.

    `async def` runs on the event loop, each call in a copy of the context; `def` in a worker thread; what was
    registered with `process=True` in a spawned process. A place under a component's `max_concurrency`, a thread or a
    process is waited for without a slot of the engine.
    """

    def __init__(self, registry: Components, *, threads: int | None = None, processes: int | None = None) -> None:
        """
        Args:
            threads: how many plain functions run at a time; absent: 40.
            processes: how many processes run at a time; absent: one for each processor.
        """
        self._registry = registry
        self._threads = threads or THREADS
        self._processes = processes
        self._opened: _Opened | None = None
        self._performs: dict[str, Perform] = {}
        self._paths: tuple[Sequence[ComponentInfo], PathTrie[str]] = ((), PathTrie())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        if self._opened is not None:
            raise RuntimeError("this FunctionsPlugin is open already; make one for each engine")
        async with entered(self._registry) as state, anyio.create_task_group() as tasks:
            self._opened = _Opened(state, tasks, self._threads)
            try:
                yield
            finally:
                self._opened = None
                self._performs.clear()
                tasks.cancel_scope.cancel()

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo]:
        return self._registry.infos()

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        """They are always known."""

    def perform(self, task: Task, host: Host) -> Coroutine[Any, Any, Outcome]:
        perform = self._performs.get(task.target)
        return self._perform_first(task, host) if perform is None else perform(task, host)

    async def _perform_first(self, task: Task, host: Host) -> Outcome:
        """Find a component that was not called before, or that was called by a path with parameters."""
        if self._opened is None:
            raise RuntimeError("this FunctionsPlugin is not open")
        target = task.target
        if self._registry.get(target) is None:
            infos = self._registry.infos()
            if infos is not self._paths[0]:
                self._paths = infos, _trie(infos)
            match = self._paths[1].match(target)
            if match is None:
                known = ", ".join(info.path for info in infos) or "none"
                return Failed(ErrorCode.COMPONENT_NOT_FOUND, f"there is no component {target!r}; there are: {known}")
            target = match.value
            task = msgspec.structs.replace(task, path_params={**match.params, **task.path_params})
        perform = self._performs.get(target)
        if perform is None:
            component = self._registry.get(target)
            assert component is not None
            perform = self._performs[target] = _perform_of(component, self._opened)
        return await perform(task, host)


def _trie(infos: Sequence[ComponentInfo]) -> PathTrie[str]:
    trie: PathTrie[str] = PathTrie()
    for info in infos:
        trie.add(info.path, info.id)
    return trie


def _perform_of(component: Component, opened: _Opened) -> Perform:
    limits: tuple[Limit, ...] = ()
    if component.max_concurrency is not None:
        limiter = anyio.CapacityLimiter(component.max_concurrency)
        limits = (Limit(limiter, f"max_concurrency of {component.path}"),)
    convert = _convert_of(component)
    if not component.is_async:
        return _in_thread(component, convert, opened, (*limits, opened.thread_limit))
    if limits or component.parameters.context is not None:
        return _on_loop_held(component, convert, opened, limits)
    return _on_loop(component, convert)


def _convert_of(component: Component) -> Convert:
    """From the input, which is shared, to a value that the function may change."""
    typed = converter(component.hints.input)
    encode = msgspec.json.encode
    decode = msgspec.json.decode

    def own(value: Json) -> Any:
        return decode(encode(value)) if isinstance(value, (dict, list)) else value

    def convert(value: Json) -> Any:
        assert typed is not None
        try:
            return typed(encode(value))
        except ValueError as error:
            raise InvalidInputError(_text_of(error)) from None

    return own if typed is None else convert


def _text_of(error: ValueError) -> str:
    """What is wrong with an input, and where."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return text
    return text if " - at `" in text else f"{text} - at `$`"


def _on_loop(component: Component, convert: Convert) -> Perform:
    """The short way: a coroutine function that takes no context and has no limit."""
    function = component.function
    has_path = "{" in component.path

    async def perform(task: Task, host: Host) -> Outcome:
        try:
            value = convert(task.input)
            coro = function(value, **task.path_params) if has_path else function(value)
            context = copy_context()
            try:
                trap = context.run(coro.send, None)
            except StopIteration as stop:
                answer = stop.value
            else:
                answer = await go_on(coro, context, trap, host.clock)
            return Succeeded(normalise(answer))
        except Exception as error:  # noqa: BLE001 - becomes the step's failure
            return _failed(error)
        except BaseException as error:
            if is_cancellation(error):
                raise
            return failed_by(error)

    return perform


def _on_loop_held(component: Component, convert: Convert, opened: _Opened, limits: Sequence[Limit]) -> Perform:
    function = component.function
    arguments = _arguments_of(component)

    async def perform(task: Task, host: Host) -> Outcome:
        call = HeldCall(task, host, opened.state, limits)
        try:
            await call.take()
            coro = function(convert(task.input), **arguments(task, host, call))
            return Succeeded(normalise(await step(coro, host.clock)))
        except Exception as error:  # noqa: BLE001 - becomes the step's failure
            return _failed(error)
        except BaseException as error:
            if is_cancellation(error):
                call.is_cancelled = True
                raise
            return failed_by(error)
        finally:
            call.give_back()

    return perform


def _in_thread(component: Component, convert: Convert, opened: _Opened, limits: Sequence[Limit]) -> Perform:
    function = component.function
    arguments = _arguments_of(component)

    async def perform(task: Task, host: Host) -> Outcome:
        call = HeldCall(task, host, opened.state, limits, is_in_thread=True)

        def work() -> Outcome:
            try:
                answer = function(convert(task.input), **arguments(task, host, call))
                if inspect.iscoroutine(answer):  # a plain function around an async one
                    coro = answer
                    answer = anyio.from_thread.run(lambda: step(coro, host.clock))
                return Succeeded(normalise(answer))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - becomes the step's failure
                return _failed(error)

        try:
            await call.take()
        except BaseException:
            call.give_back()
            raise
        return await opened.threads.run(call, work, host.clock)

    return perform


def _arguments_of(component: Component) -> Callable[[Task, Host, HeldCall], dict[str, Any]]:
    name = component.parameters.context

    def arguments(task: Task, host: Host, call: HeldCall) -> dict[str, Any]:
        given: dict[str, Any] = dict(task.path_params) if task.path_params else {}
        if name is not None:
            given[name] = Context(task, host, call)
        return given

    return arguments


def _failed(error: BaseException) -> Failed:
    if isinstance(error, NotJsonError):
        return Failed(ErrorCode.COMPONENT_FAILED, f"the output is not JSON: {error}")
    return failed_by(error)
