"""From a step's component to the plugin that answers for it, opened when a step first needs it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskGroup

from stepflow.errors import PluginUnavailableError
from stepflow.protocols import Explaining, Plugin
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json
from stepflow.routing.router import Resolved, Router, Unroutable
from stepflow.routing.table import RouteTable

logger = logging.getLogger("stepflow.run")

QUICK_ROUNDS = 5
"""Rounds of the loop that a step keeps its slot while its plugin opens; most need one or two."""

PluginSource: TypeAlias = Plugin | Callable[[], Plugin]


class Way(msgspec.Struct, frozen=True):
    """How a step's tasks reach their component."""

    plugin: Plugin
    target: str
    path_params: Mapping[str, str]
    params: Mapping[str, Json]
    version: int  # of what the router knew; -1: holds for one input only
    leaves_process: bool = False  # a start is stored before the task goes out: its answer may come to another engine

    def input_schema(self) -> Json:
        """What the component says of its input; None where it says nothing."""
        listed = self.plugin.components(self.params) or ()
        return next((info.input_schema for info in listed if info.id == self.target), None)


class Dispatcher:
    """Finds the plugin of each step. Plugins stay open until the task group is cancelled."""

    def __init__(self, table: RouteTable, sources: Mapping[str, PluginSource], tasks: TaskGroup) -> None:
        self.router = Router(table, self.components)
        self._sources = dict(sources)
        self._plugins: dict[str, Plugin] = {}
        self._opening: dict[str, anyio.Event] = {}
        self._open: dict[str, Plugin] = {}
        self._broken: dict[str, PluginUnavailableError] = {}
        self._tasks = tasks
        self.version = 0  # of what the router knows, as of the last `refresh`

    def refresh(self) -> None:
        """Notice component lists that have changed. Called once a commit rather than once a step."""
        self.version = self.router.version

    def plugin(self, name: str) -> Plugin:
        """The plugin of this name, made now if nobody needed it before.

        Raises:
            PluginUnavailableError: it can't be made here; the text says what is missing.
        """
        if name in self._broken:
            raise self._broken[name]
        if name not in self._plugins:
            source = self._sources[name]
            try:
                self._plugins[name] = source() if callable(source) else source
            except PluginUnavailableError as error:
                self._broken[name] = error
                raise
        return self._plugins[name]

    def components(self, name: str, params: Mapping[str, Json]) -> Sequence[ComponentInfo] | None:
        try:
            return self.plugin(name).components(params)
        except PluginUnavailableError:
            return None

    async def way(
        self, component: str, input: Json, waiting: Callable[[str], AbstractAsyncContextManager[None]]
    ) -> Way | Failed:
        """Resolve a component path for an input, and open its plugin.

        Args:
            waiting: entered while the answer has to be waited for, with the reason.
        """
        try:
            found = self.router.resolve(component, input)
            while not isinstance(found, Resolved):
                if isinstance(found, Unroutable):
                    return Failed(found.code, found.message, may_retry=False)
                plugin = await self._opened(found.plugin, waiting)
                async with waiting(_lacking(plugin, found.plugin, found.params)):
                    await plugin.wait_components(found.params)
                found = self.router.resolve(component, input)
            plugin = await self._opened(found.plugin, waiting)
        except PluginUnavailableError as error:
            return Failed(ErrorCode.UNREACHABLE, str(error), may_retry=False)
        version = -1 if found.input_dependent else self.version
        leaves = getattr(plugin, "leaves_process", False)
        return Way(plugin, found.target, found.path_params, found.params, version, leaves)

    async def _opened(self, name: str, waiting: Callable[[str], AbstractAsyncContextManager[None]]) -> Plugin:
        if name in self._open:
            return self._open[name]
        if name not in self._opening:
            plugin = self.plugin(name)
            self._opening[name] = anyio.Event()
            self._tasks.start_soon(self._keep_open, name, plugin, name=f"plugin {name}")
        opening = self._opening[name]
        for _ in range(QUICK_ROUNDS):
            if not opening.is_set():
                await anyio.lowlevel.checkpoint()
        if not opening.is_set():
            async with waiting(f"plugin {name!r} is being opened"):
                await opening.wait()
        if name in self._broken:
            raise self._broken[name]
        return self._open[name]

    async def _keep_open(self, name: str, plugin: Plugin) -> None:
        try:
            async with plugin.open():
                self._open[name] = plugin
                self._opening[name].set()
                await anyio.sleep_forever()
        except Exception as error:
            if name in self._open:
                raise
            logger.exception("plugin %r can't be opened", name)
            self._broken[name] = PluginUnavailableError(
                f"plugin {name!r} can't be opened: {type(error).__name__}: {error}"
            )
        finally:
            self._opening[name].set()


def _lacking(plugin: Plugin, name: str, params: Mapping[str, Json]) -> str:
    """What a step waits for that can't be routed yet."""
    return plugin.lacking(params) if isinstance(plugin, Explaining) else f"the component list of plugin {name!r}"
