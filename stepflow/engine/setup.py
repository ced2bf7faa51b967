"""What an engine is made of before it is open: what it was told, checked."""

import os
from collections.abc import Mapping, Sequence

import msgspec

from stepflow.components import Components
from stepflow.execution.dispatch import PluginSource
from stepflow.execution.intake import Rules
from stepflow.execution.membership import Identity
from stepflow.execution.options import RecoverySettings, RetentionSettings
from stepflow.execution.sealing import SECRETS, Vault
from stepflow.execution.submission import Plans
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.protocols import Backend, Chance, Clock, Observer
from stepflow.records import Json
from stepflow.routing.table import RouteTable, parse_routes


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """All that the parts of an engine need to know."""

    backend: Backend
    clock: Clock
    chance: Chance
    sources: Mapping[str, PluginSource]
    table: RouteTable
    observers: Sequence[Observer]
    identity: Identity
    rules: Rules
    recovery: RecoverySettings
    retention: RetentionSettings | None
    plans: Plans
    vault: Vault | None  # None: nothing of it outlives the process


def routed(
    components: Components | Mapping[str, Components] | None,
    plugins: Mapping[str, PluginSource],
    routes: Mapping[str, Json] | None,
) -> tuple[dict[str, PluginSource], RouteTable]:
    """Plugins by name, registries among them, and the paths that lead to them. Raises: ConfigError."""
    sources = dict(plugins)
    registries = {"/": components} if isinstance(components, Components) else components or {}
    mounts = {prefix: f"components at {prefix}" for prefix in registries}
    sources.update({mounts[prefix]: FunctionsPlugin(registry) for prefix, registry in registries.items()})
    if routes is None:
        sources.setdefault("builtin", BuiltinPlugin())
        routes = {} if "/builtin" in mounts else {"/builtin": [{"plugin": "builtin"}]}
    return sources, parse_routes(routes, tuple(sources), mounts=mounts)


def vault_of(backend: Backend, secrets: str) -> Vault | None:
    """Raises: SecretKeyError, where the store is durable and the key malformed. ValueError: there is no such mode."""
    if secrets not in SECRETS:
        raise ValueError(f"secrets is one of {', '.join(SECRETS)}, not {secrets!r}")
    return Vault(os.environ, secrets=secrets) if backend.is_durable else None
