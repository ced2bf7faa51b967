"""What a test runs against where nothing is scripted: registries and a configuration."""

import os
from collections.abc import Callable, Mapping

import msgspec

from stepflow.components import Components
from stepflow.config.model import Config
from stepflow.config.open import plugin_factories
from stepflow.execution.verdict import RetrySettings
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.protocols import Plugin
from stepflow.records import Json
from stepflow.routing.table import RouteTable, parse_routes


class Application(msgspec.Struct, frozen=True):
    """Routes, and the plugins they lead to."""

    table: RouteTable
    sources: Mapping[str, Callable[[], Plugin]]
    retry: RetrySettings = RetrySettings()


def read_application(
    components: Components | Mapping[str, Components] | None = None, config: Config | None = None
) -> Application:
    """Registries mounted beside the routes of a configuration; without one, beside the builtins.

    Raises:
        ConfigError: a mounted registry meets one of the routes.
    """
    registries = {"/": components} if isinstance(components, Components) else dict(components or {})
    mounts = {prefix: f"components at {prefix}" for prefix in registries}
    sources: dict[str, Callable[[], Plugin]] = {name: _Registry(registries[at]) for at, name in mounts.items()}
    if config is None:
        sources["builtin"] = BuiltinPlugin
        routes: Json = {} if "/builtin" in mounts else {"/builtin": [{"plugin": "builtin"}]}
        return Application(parse_routes(routes, tuple(sources), mounts=mounts), sources)
    sources |= plugin_factories(config, os.environ)
    return Application(parse_routes(config.routes, tuple(sources), mounts=mounts), sources, config.retry)


class _Registry:
    def __init__(self, registry: Components) -> None:
        self._registry = registry

    def __call__(self) -> Plugin:
        return FunctionsPlugin(self._registry)
