"""Which plugins can be had here, and which steps name a component that nobody answers for."""

import os
from collections.abc import Callable, Mapping, Sequence

from stepflow.cli.apps import load_apps
from stepflow.cli.opening import chosen_config
from stepflow.config.read import load_config
from stepflow.errors import PluginUnavailableError, Problem
from stepflow.flow.document import located
from stepflow.flow.model import Flow
from stepflow.flow.path import format_path
from stepflow.protocols import Plugin
from stepflow.records import ComponentInfo, Json
from stepflow.routing.router import Router, Unroutable
from stepflow.testing.application import read_application


class Reach:
    """What the routes of a configuration and of mounted registries lead to, as far as it can be told unopened.

    Raises:
        CommandError, ConfigError: a registry or the configuration can't be used.
    """

    def __init__(self, config: str | None, flow: str | None, apps: Sequence[str]) -> None:
        file = chosen_config(config, flow)
        read = None if file is None else load_config(file, environ=os.environ)
        application = read_application(load_apps(apps), read)
        self._table = application.table
        self._plugins = {name: _made(source) for name, source in application.sources.items()}

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Why plugins can't be had here, one text each."""
        return tuple(str(found) for found in self._plugins.values() if isinstance(found, PluginUnavailableError))

    def unanswered(self, flow: Flow) -> tuple[Problem, ...]:
        """A warning a step whose component no route leads to, or that its plugin does not have.

        What an input decides (a rule's conditions), or a plugin tells only later, is left out.
        """
        if any(rule.conditions for route in self._table.routes for rule in route.rules):
            return ()
        router = Router(self._table, self._components)
        found = []
        for index, step in enumerate(flow.steps):
            answer = router.resolve(step.component, None)
            if isinstance(answer, Unroutable):
                at = format_path(("steps", index, "component"))
                found.append(Problem(message=f'step "{step.id}": {answer.message}', path=at, level="warning"))
        return located(found, flow.origin)

    def _components(self, name: str, params: Mapping[str, Json]) -> Sequence[ComponentInfo] | None:
        plugin = self._plugins[name]
        return None if isinstance(plugin, PluginUnavailableError) else plugin.components(params)


def _made(source: Callable[[], Plugin]) -> Plugin | PluginUnavailableError:
    try:
        return source()
    except PluginUnavailableError as error:
        return error
