"""Which steps name a component that nobody answers for."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

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
from stepflow.testing.application import Application, read_application


def unreachable_components(flow: Flow, config: str | None, apps: Sequence[str]) -> tuple[Problem, ...]:
    """A warning a step whose component no route leads to, or that its plugin does not have.

    What an input decides (a rule's conditions), or a plugin tells only later, is left out.
    """
    file = chosen_config(config, flow.origin.name)
    read = None if file is None else load_config(file, environ=os.environ)
    application = read_application(load_apps(apps), read)
    if any(rule.conditions for route in application.table.routes for rule in route.rules):
        return ()
    router = Router(application.table, _Listing(application))
    found = []
    for index, step in enumerate(flow.steps):
        answer = router.resolve(step.component, None)
        if isinstance(answer, Unroutable):
            at = format_path(("steps", index, "component"))
            found.append(Problem(message=f'step "{step.id}": {answer.message}', path=at, level="warning"))
    return located(found, flow.origin)


class _Listing:
    """What each plugin offers, as far as it can be told without opening it."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._plugins: dict[str, Plugin | None] = {}

    def __call__(self, name: str, params: Mapping[str, Json]) -> Sequence[ComponentInfo] | None:
        if name not in self._plugins:
            self._plugins[name] = self._made(self._application.sources[name])
        plugin = self._plugins[name]
        return None if plugin is None else plugin.components(params)

    def _made(self, source: Any) -> Plugin | None:
        try:
            plugin: Plugin = source()
        except PluginUnavailableError:
            return None
        return plugin
