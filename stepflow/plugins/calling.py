"""How each kind of component is called in this process. What varies between components is decided once for each."""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import Any, TypeAlias

import anyio
import anyio.from_thread
import msgspec
from anyio.abc import TaskGroup

from stepflow.components import Component
from stepflow.context import Context
from stepflow.errors import InvalidInputError
from stepflow.flow.path import format_path
from stepflow.plugins.failure import failed_by, is_cancellation
from stepflow.plugins.held import HeldCall, Limit
from stepflow.plugins.normal import NotJsonError, normalise
from stepflow.plugins.stepping import Stepper, go_on
from stepflow.plugins.threads import Threads
from stepflow.protocols import Host
from stepflow.records import ErrorCode, Failed, Json, Outcome, Succeeded, Task
from stepflow.signature import converter

Perform: TypeAlias = Callable[[Task, Host], Coroutine[Any, Any, Outcome]]
PerformAll: TypeAlias = Callable[[Sequence[Task], Host], Coroutine[Any, Any, list[Outcome]]]
"""Performs a batch: one outcome a task, in order."""

Convert: TypeAlias = Callable[[Json], Any]
Arguments: TypeAlias = Callable[[Task, Host, HeldCall], dict[str, Any]]


class Means:
    """What calls are made with while a plugin is open."""

    __slots__ = ("is_alone", "state", "thread_limit", "threads")

    def __init__(self, state: Any, tasks: TaskGroup, threads: int, *, is_alone: bool = False) -> None:
        """
        Args:
            is_alone: the process has nothing to do but one call at a time, so that it may block the event loop.
        """
        self.state = state
        self.is_alone = is_alone
        self.threads = Threads(tasks)
        self.thread_limit = Limit(threads, "a thread")


def limits_of(component: Component) -> tuple[Limit, ...]:
    if component.max_concurrency is None:
        return ()
    return (Limit(component.max_concurrency, f"max_concurrency of {component.path}"),)


def performer(component: Component, means: Means) -> Perform:
    """Calls the component for one task at a time."""
    limits = limits_of(component)
    if not component.is_async and means.is_alone and component.parameters.context is None:
        return _at_once(component)
    if not component.is_async:
        return _in_thread(component, means, (*limits, means.thread_limit))
    if limits or component.parameters.context is not None:
        return _on_loop_held(component, means, limits)
    return _on_loop(component)


def _on_loop(component: Component) -> Perform:
    """The short way: a coroutine function that takes no context and has no limit."""
    function, convert, named = component.function, _converting(component), _path_arguments(component)
    stepper = Stepper()

    async def perform(task: Task, host: Host) -> Outcome:
        try:
            value = convert(task.input)
            coro = function(value) if named is None else function(value, **named(task))
            if not stepper.is_quiet:
                return Succeeded(normalise(await stepper.step(coro)))
            context = copy_context()
            try:
                trap = context.run(coro.send, None)
            except StopIteration as stop:
                return Succeeded(normalise(stop.value))
            stepper.suspended()
            return Succeeded(normalise(await go_on(coro, context, trap, None)))
        except Exception as error:  # noqa: BLE001 - becomes the step's failure
            return failure(error)
        except BaseException as error:
            if is_cancellation(error):
                raise
            return failed_by(error)

    return perform


def _on_loop_held(component: Component, means: Means, limits: Sequence[Limit]) -> Perform:
    function, convert, arguments = component.function, _converting(component), _arguments(component)
    stepper = Stepper()

    async def perform(task: Task, host: Host) -> Outcome:
        call = HeldCall(task, host, means.state, limits)
        try:
            await call.take()
            coro = function(convert(task.input), **arguments(task, host, call))
            return Succeeded(normalise(await stepper.step(coro)))
        except Exception as error:  # noqa: BLE001 - becomes the step's failure
            return failure(error)
        except BaseException as error:
            if is_cancellation(error):
                call.is_cancelled = True
                raise
            return failed_by(error)
        finally:
            call.give_back()

    return perform


def _in_thread(component: Component, means: Means, limits: Sequence[Limit]) -> Perform:
    function, convert, arguments = component.function, _converting(component), _arguments(component)

    async def perform(task: Task, host: Host) -> Outcome:
        call = HeldCall(task, host, means.state, limits, is_in_thread=True)

        def work() -> Outcome:
            try:
                answer = function(convert(task.input), **arguments(task, host, call))
                if inspect.iscoroutine(answer):  # a plain function around an async one
                    answer = anyio.from_thread.run(Stepper().step, answer)
                return Succeeded(normalise(answer))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - becomes the step's failure
                return failure(error)

        try:
            await call.take()
        except BaseException:
            call.give_back()
            raise
        try:
            return await means.threads.run(call, work)
        except Exception as error:  # noqa: BLE001 - no thread could be started
            return failure(error)

    return perform


def _at_once(component: Component) -> Perform:
    """Calls a plain function where it may block the event loop: a thread would cost more than many a call."""
    function, convert, named = component.function, _converting(component), _path_arguments(component)

    async def perform(task: Task, host: Host) -> Outcome:
        try:
            value = convert(task.input)
            answer = function(value) if named is None else function(value, **named(task))
            if inspect.iscoroutine(answer):
                answer = await Stepper().step(answer)
            return Succeeded(normalise(answer))
        except BaseException as error:
            if not isinstance(error, Exception) and is_cancellation(error):
                raise
            return failure(error)

    return perform


def batch_performer(component: Component, means: Means) -> PerformAll:
    """Calls the component with the inputs of several tasks. The context is that of the first one."""
    convert = _converting(component)
    limits = limits_of(component)
    invoke = _invoke_on_loop if component.is_async else _invoke_in_thread
    if not component.is_async:
        limits = (*limits, means.thread_limit)

    async def perform_all(tasks: Sequence[Task], host: Host) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(tasks)
        values: dict[int, Any] = {}
        for index, task in enumerate(tasks):
            try:
                values[index] = convert(task.input)
            except Exception as error:  # noqa: BLE001 - becomes the step's failure
                outcomes[index] = failure(error)
        call = HeldCall(tasks[0], host, means.state, limits, is_in_thread=not component.is_async, is_in_batch=True)

        async def answer(some: list[Any]) -> Any:
            return await invoke(component, means, tasks[0], host, call, some)

        answered = await _answered(answer, list(values.values()))
        for index, outcome in zip(values, answered, strict=True):
            outcomes[index] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    return perform_all


async def _answered(answer: Callable[[list[Any]], Coroutine[Any, Any, Any]], values: list[Any]) -> list[Outcome]:
    """One outcome a value.

    An exception from the whole batch may be any element's, so each is then tried alone; but where a resource was
    missing, which all of them need, it is everyone's.
    """
    if not values:
        return []
    try:
        return _spread(await answer(values), len(values))
    except BaseException as error:
        if not isinstance(error, Exception) and is_cancellation(error):
            raise
        failed = failure(error)
    if len(values) == 1 or failed.code is ErrorCode.RESOURCE_UNAVAILABLE:
        return [failed] * len(values)
    return [(await _answered(answer, [value]))[0] for value in values]


def _spread(answers: Any, count: int) -> list[Outcome]:
    if not isinstance(answers, (list, tuple)):
        kind = type(answers).__name__
        wrong = Failed(ErrorCode.COMPONENT_FAILED, f"a batch of {count} was answered by {kind}, not by a list")
        return [wrong] * count
    if len(answers) != count:
        text = f"a batch of {count} was answered by a list of {len(answers)}; it has to have one answer for each input"
        return [Failed(ErrorCode.COMPONENT_FAILED, text)] * count
    return [_outcome(answer) for answer in answers]


def _outcome(answer: Any) -> Outcome:
    if isinstance(answer, Exception):
        return failed_by(answer)
    try:
        return Succeeded(normalise(answer))
    except Exception as error:  # noqa: BLE001 - becomes the step's failure
        return failure(error)


async def _invoke_on_loop(
    component: Component, means: Means, task: Task, host: Host, call: HeldCall, values: list[Any]
) -> Any:
    try:
        await call.take()
        return await Stepper().step(component.function(values, **_arguments(component)(task, host, call)))
    finally:
        call.give_back()


async def _invoke_in_thread(
    component: Component, means: Means, task: Task, host: Host, call: HeldCall, values: list[Any]
) -> Any:
    def work() -> Any:
        try:
            return component.function(values, **_arguments(component)(task, host, call))
        except StopIteration as error:
            raise RuntimeError("the component raised StopIteration") from error

    try:
        await call.take()
    except BaseException:
        call.give_back()
        raise
    return await means.threads.run(call, work)


def failure(error: BaseException) -> Failed:
    if isinstance(error, NotJsonError):
        return Failed(ErrorCode.COMPONENT_FAILED, f"the output is not JSON: {error}")
    return failed_by(error)


def _converting(component: Component) -> Convert:
    """From an input, which is shared, to a value that the function may change."""
    typed = converter(component.hints.input)
    encode, decode = msgspec.json.encode, msgspec.json.decode
    if typed is None:
        return lambda value: decode(encode(value)) if isinstance(value, (dict, list)) else value

    def convert(value: Json) -> Any:
        try:
            return typed(encode(value))
        except (ValueError, msgspec.ValidationError) as error:  # not always a ValueError itself
            raise InvalidInputError(_text_of(error)) from None

    return convert


def _text_of(error: Exception) -> str:
    """What is wrong with an input, and where."""
    errors = getattr(error, "errors", None)
    if callable(errors):  # of pydantic
        return "; ".join(f"{fault['msg']} - at `{format_path(fault['loc'])}`" for fault in errors())
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return text
    return text if " - at `" in text else f"{text} - at `$`"


def _path_arguments(component: Component) -> Callable[[Task], dict[str, str]] | None:
    """The path parameters that the function takes; None: it takes none."""
    names = component.parameters.others
    if names is not None and not names:
        return None
    return lambda task: {name: text for name, text in task.path_params.items() if names is None or name in names}


def _arguments(component: Component) -> Arguments:
    named = _path_arguments(component)
    context = component.parameters.context

    def arguments(task: Task, host: Host, call: HeldCall) -> dict[str, Any]:
        given: dict[str, Any] = {} if named is None else dict(named(task))
        if context is not None:
            given[context] = Context(task, host, call)
        return given

    return arguments
