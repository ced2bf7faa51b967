"""The registry that users decorate functions with."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any, TypeAlias, TypeVar, overload

import msgspec

from stepflow.context import Context
from stepflow.errors import ConfigError, Problem
from stepflow.records import ComponentInfo
from stepflow.signature import Hints, Parameters, SignatureError, json_schema, read_hints, read_parameters

__all__ = ["Batch", "Component", "Components", "Context", "Lifespan"]

F = TypeVar("F", bound=Callable[..., Any])

Lifespan: TypeAlias = Callable[..., Any]
"""Makes a context manager, plain or async, or is a generator function that yields once. Called without arguments,
or with the registry where it takes one."""

_SEGMENT = re.compile(r"(?:[^{}/\s]|\{\{|\}\})+|\{(\*?)([^{}*/]+)\}")


class Batch(msgspec.Struct, frozen=True):
    """Calls are collected and made together: the function takes a list of inputs and gives a list of outputs.

    A batch is made when it has `size` calls, or when `wait_ms` milliseconds are over since its first one.
    """

    size: int
    wait_ms: float = 10.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a batch has at least one call, not {self.size}")
        if not 0 <= self.wait_ms < float("inf"):
            raise ValueError(f"a batch waits a finite number of milliseconds from 0 on, not {self.wait_ms!r}")


@dataclass(frozen=True)
class Component:
    """A registered function, and how it is called."""

    path: str
    id: str
    function: Callable[..., Any]
    parameters: Parameters
    description: str | None = None
    max_concurrency: int | None = None
    batch: Batch | None = None
    process: bool = False

    @property
    def is_async(self) -> bool:
        return _is_async(self.function)

    @cached_property
    def hints(self) -> Hints:
        """The types of the input and the output: for a batch, of one element.

        Raises:
            ConfigError: the hint of the input cannot be used.
        """
        try:
            return read_hints(self.function, self.parameters.input, lists=self.batch is not None)
        except SignatureError as error:
            raise _refused(self.function, self.path, error.reason, error.remedy) from None

    @cached_property
    def info(self) -> ComponentInfo:
        hints = self.hints
        return ComponentInfo(
            id=self.id,
            path=self.path,
            description=self.description,
            input_schema=json_schema(hints.input),
            output_schema=json_schema(hints.output, output=True),
        )


class Components:
    """Functions that flows can call, by path.

    The function may be `async def` (called on the event loop), `def` (in a worker thread) or, with `process=True`,
    called in a process of its own. Its first parameter takes the input and its type hint says which; a parameter
    annotated as `Context` takes the context; parameters of the path go by name.
    """

    def __init__(self, lifespan: Lifespan | None = None) -> None:
        """
        Args:
            lifespan: entered once in each process that runs components; what it yields is `ctx.state`.
        """
        self.lifespan = lifespan
        self._by_id: dict[str, Component] = {}
        self._shapes: dict[str, Component] = {}
        self._infos: tuple[ComponentInfo, ...] | None = None

    @overload
    def component(self, path_or_function: F, /) -> F: ...

    @overload
    def component(
        self,
        path_or_function: str | None = None,
        /,
        *,
        id: str | None = None,
        description: str | None = None,
        max_concurrency: int | None = None,
        batch: Batch | None = None,
        process: bool = False,
    ) -> Callable[[F], F]: ...

    def component(
        self,
        path_or_function: Any = None,
        /,
        *,
        id: str | None = None,
        description: str | None = None,
        max_concurrency: int | None = None,
        batch: Batch | None = None,
        process: bool = False,
    ) -> Any:
        """Register a function under a path such as `/ml/embed`, `/one/{x}` or `/core/{*rest}`; it is left as it is.

        Args:
            path_or_function: without a path the component is at `/<function name>`.
            id: what routes and workers know it by; absent: its path without the first slash.
            description: absent: the function's docstring.
            max_concurrency: how many calls of it may run at a time in this process.
            batch: collect calls; the function then takes a list and gives a list of the same length, whose elements
                may be exceptions.
            process: call it in a process of its own, for work that keeps a processor busy. It is found there by its
                module and name.

        Raises:
            ConfigError: the path is taken or malformed, or the function cannot be called so.
        """

        def register(function: F) -> F:
            path = path_or_function if isinstance(path_or_function, str) else f"/{_name(function)}"
            self._add(
                Component(
                    path=path,
                    id=id or path.removeprefix("/"),
                    function=function,
                    parameters=_parameters(function, path),
                    description=description or inspect.getdoc(function),
                    max_concurrency=max_concurrency,
                    batch=batch,
                    process=process,
                )
            )
            return function

        return register(path_or_function) if callable(path_or_function) else register

    def infos(self) -> tuple[ComponentInfo, ...]:
        """Every component, in the order of registration; the same tuple until another one is registered."""
        if self._infos is None:
            self._infos = tuple(component.info for component in self._by_id.values())
        return self._infos

    def get(self, id: str) -> Component | None:
        """The component of this id; None: there is none."""
        return self._by_id.get(id)

    def all(self) -> tuple[Component, ...]:
        """Every component, in the order of registration."""
        return tuple(self._by_id.values())

    def _add(self, component: Component) -> None:
        shape = re.sub(r"\{[^{}]*\}", "{}", component.path)
        taken = self._shapes.get(shape)
        if taken is not None:
            raise _refused(
                component.function, component.path, f"the path is taken by {_place(taken.function)}", "choose another"
            )
        if component.id in self._by_id:
            other = self._by_id[component.id].path
            raise _refused(
                component.function, component.path, f"the id {component.id!r} is taken by {other}", "choose another id"
            )
        if component.max_concurrency is not None and component.max_concurrency < 1:
            reason = f"max_concurrency is {component.max_concurrency}, so that it could never run"
            raise _refused(component.function, component.path, reason, "give 1 or more")
        if component.process:
            for function in (component.function, *([self.lifespan] if self.lifespan else [])):
                _check_importable(function, component)
        self._shapes[shape] = component
        self._by_id[component.id] = component
        self._infos = None


def _parameters(function: Callable[..., Any], path: str) -> Parameters:
    try:
        return read_parameters(function, _path_names(path), Context)
    except SignatureError as error:
        raise _refused(function, path, error.reason, error.remedy) from None


def _path_names(path: str) -> list[str]:
    remedy = "write it like /ml/embed, /one/{name} or /core/{*rest}"
    if not path.startswith("/"):
        raise SignatureError(f"the path {path!r} does not begin with a slash", f"write {'/' + path!r}")
    names: list[str] = []
    segments = path[1:].split("/")
    for index, segment in enumerate(segments):
        match = _SEGMENT.fullmatch(segment)
        if match is None:
            raise SignatureError(f"{segment!r} cannot be a part of the path {path!r}", remedy)
        if match[1] and index < len(segments) - 1:
            raise SignatureError(f"{segment!r} is not the last part of the path {path!r}", remedy)
        if match[2]:
            names.append(match[2])
    for name in names:
        if not name.isidentifier():
            raise SignatureError(f"{name!r} in the path {path!r} cannot be the name of a parameter", remedy)
        if names.count(name) > 1:
            raise SignatureError(f"{{{name}}} occurs twice in the path {path!r}", remedy)
    return names


def _check_importable(function: Callable[..., Any], component: Component) -> None:
    """A process finds functions by module and name."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    role = "" if function is component.function else f"the lifespan {name} "
    if module in (None, "__main__"):
        reason = f"{role}stands in the script that was started, which another process cannot import"
    elif not isinstance(function, FunctionType) or "<" in name:
        reason = f"{role}is not a function at the top of a module, so that another process cannot import it"
    else:
        return
    remedy = "move it to the top of a module of its own and import that, or leave out process=True"
    raise _refused(component.function, component.path, reason.removeprefix(" "), remedy)


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _place(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
    return f"{_name(function)}{where}"


def _refused(function: Callable[..., Any], path: str, reason: str, remedy: str) -> ConfigError:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return ConfigError(
        [
            Problem(
                message=f"component {path} ({_name(function)}): {reason}",
                source=code.co_filename if code is not None else None,
                line=code.co_firstlineno if code is not None else 0,
                remedy=remedy,
            )
        ]
    )
