"""What a test runs against where nothing is scripted: registries and a configuration."""

import os
from collections.abc import Callable, Mapping

import msgspec

from stepflow.components import Components
from stepflow.config.open import plugin_factories
from stepflow.config.read import ConfigSource, load_config
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.protocols import Plugin
from stepflow.routing.table import RouteTable, parse_routes
from stepflow.run.verdict import RetrySettings


class Application(msgspec.Struct, frozen=True):
    """Routes, and the plugins they lead to."""

    table: RouteTable
    sources: Mapping[str, Callable[[], Plugin]]
    retry: RetrySettings


def read_application(
    components: Components | Mapping[str, Components] | None = None, config: ConfigSource = None
) -> Application:
    """Registries mounted beside the routes of a configuration; without one, beside the builtins.

    Raises:
        ConfigError: the configuration is refused, or a mounted registry meets one of its routes.
    """
    registries = {"/": components} if isinstance(components, Components) else dict(components or {})
    read = load_config(config, environ=os.environ)
    sources = plugin_factories(read, os.environ)
    mounts = {prefix: f"components at {prefix}" for prefix in registries}
    sources |= {name: _Registry(registries[prefix]) for prefix, name in mounts.items()}
    routes = {} if config is None and "/builtin" in mounts else read.routes
    return Application(parse_routes(routes, tuple(sources), mounts=mounts), sources, read.retry)


class _Registry:
    def __init__(self, registry: Components) -> None:
        self._registry = registry

    def __call__(self) -> Plugin:
        return FunctionsPlugin(self._registry)
