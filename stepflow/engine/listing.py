"""Which components there are, and why others are not."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from stepflow.errors import PluginUnavailableError
from stepflow.execution.dispatch import Dispatcher
from stepflow.protocols import Plugin
from stepflow.records import ComponentInfo, Json
from stepflow.routing.table import RouteTable


class ListedComponent(msgspec.Struct, frozen=True):
    plugin: str
    info: ComponentInfo
    routes: tuple[str, ...]
    """The paths by which flows can name it."""


def routes_to(table: RouteTable, plugin: str) -> list[tuple[str, Mapping[str, Json]]]:
    """The routes that lead to a plugin, each with its params."""
    return [(route.key, rule.params) for route in table.routes for rule in route.rules if rule.plugin == plugin]


def listed(table: RouteTable, dispatcher: Dispatcher, plugin: str) -> Iterable[ListedComponent]:
    """What a plugin has behind any of its routes: which queue one leads to may be said in its params."""
    found: dict[str, ListedComponent] = {}
    routes: list[Mapping[str, Json]] = [params for _, params in routes_to(table, plugin)]
    for params in [each for number, each in enumerate(routes) if each not in routes[:number]] or [{}]:
        for info in dispatcher.components(plugin, params) or ():
            if not info.is_alias:
                paths = table.caller_paths(plugin, info, params)
                before = found[info.id].routes if info.id in found else ()
                found[info.id] = ListedComponent(plugin, info, tuple(dict.fromkeys((*before, *paths))))
    return found.values()


def made(dispatcher: Dispatcher, names: Iterable[str]) -> dict[str, Plugin]:
    """The plugins that can be made here, by name."""
    found: dict[str, Plugin] = {}
    for name in names:
        with suppress(PluginUnavailableError):
            found[name] = dispatcher.plugin(name)
    return found


def failed(dispatcher: Dispatcher, names: Iterable[str]) -> dict[str, str]:
    """The plugins that can't be made or opened here, by name, and why."""
    found: dict[str, str] = {}
    for name in names:
        try:
            dispatcher.plugin(name)
        except PluginUnavailableError as error:
            found[name] = str(error)
    return found
