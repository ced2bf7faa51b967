"""What is wrong or doubtful in a configuration's plugins and routes: one pure function a diagnostic."""

from collections.abc import Iterator, Mapping

from stepflow.plan.checks import Diagnostic, Found, diagnostic
from stepflow.plan.suggest import did_you_mean
from stepflow.records import Json


def check_config(plugins: Mapping[str, Json], routes: Mapping[str, Json]) -> tuple[Diagnostic, ...]:
    """Everything the catalogue has to say about plugins by name and rules by prefix or pattern."""
    return (
        *no_plugins(plugins),
        *no_routes(routes),
        *unknown_plugins(plugins, routes),
        *unused_plugins(plugins, routes),
    )


def no_plugins(plugins: Mapping[str, Json]) -> Found:
    if not plugins:
        yield diagnostic(1200, "no plugins are configured", ("plugins",))


def no_routes(routes: Mapping[str, Json]) -> Found:
    if not routes:
        yield diagnostic(1201, "no routes are configured, so no component can be reached", ("routes",))


def unknown_plugins(plugins: Mapping[str, Json], routes: Mapping[str, Json]) -> Found:
    for prefix, index, plugin in _rules(routes):
        if plugin not in plugins:
            message = f'route "{prefix}" names plugin "{plugin}", which is not configured'
            at = (
                ("routes", prefix, index, "plugin")
                if isinstance(routes[prefix], list)
                else ("routes", prefix, "plugin")
            )
            data: dict[str, Json] = {"route_path": prefix, "rule_index": index, "plugin": plugin}
            yield diagnostic(2200, message, at, suggestion=did_you_mean(plugin, plugins), data=data)


def unused_plugins(plugins: Mapping[str, Json], routes: Mapping[str, Json]) -> Found:
    used = {plugin for _, _, plugin in _rules(routes)}
    for name in plugins:
        if name not in used:
            yield diagnostic(1202, f'plugin "{name}" is used by no route', ("plugins", name), data={"plugin": name})


def _rules(routes: Mapping[str, Json]) -> Iterator[tuple[str, int, str]]:
    """(prefix, place in its list, plugin) of every rule that names a plugin."""
    for prefix, written in routes.items():
        for index, rule in enumerate(written if isinstance(written, list) else [written]):
            plugin = rule.get("plugin") if isinstance(rule, dict) else None
            if isinstance(plugin, str):
                yield prefix, index, plugin
