"""The types of plugins that a configuration may name, and the keys of each."""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points

from stepflow.config.model import PluginSettings
from stepflow.config.section import Section
from stepflow.errors import ConfigError
from stepflow.plan.suggest import did_you_mean
from stepflow.plugins.mock import MockPlugin

ENTRY_POINTS = "stepflow.plugins"

EXTRAS: Mapping[str, str | None] = {"grpc": "grpc", "mcp": "mcp", "nats": None}
"""Types that come with an extra of the distribution; None: there is none to install yet."""


def plugin_entry_points() -> dict[str, EntryPoint]:
    """The plugin types that installed packages add, by name."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def read_plugins(section: Section) -> dict[str, PluginSettings]:
    """The declared plugins in order; one whose type cannot be told is left out."""
    installed = plugin_entry_points()
    read = (_read_plugin(name, section, tuple(installed)) for name in section.keys)
    return {settings.name: settings for settings in read if settings is not None}


def _read_plugin(name: str, plugins: Section, installed: tuple[str, ...]) -> PluginSettings | None:
    section = plugins.section(name)
    if section is None:
        plugins.problems.add((*plugins.path, name), f"{name} has to be an object with the key type")
        return None
    type = section.text("type", required=True)
    if type is None:
        return None
    check = _CHECKS.get(type)
    if check is not None:
        check(section)
        section.warn_unknown()
    elif type not in installed:
        known = tuple(dict.fromkeys((*_CHECKS, *installed)))
        near = did_you_mean(type, known)
        section.problems.add(
            (*section.path, "type"),
            f'there is no plugin type "{type}"; there are {", ".join(known)}',
            f'did you mean "{near}"?' if near else None,
        )
    return PluginSettings(name=name, type=type, options=section.without("type"))


def _check_builtin(section: Section) -> None:
    section.texts("loadRoots")


def _check_mock(section: Section) -> None:
    components = section.section("components")
    if components is not None:
        for path in components.keys:
            _check_mocked(components, path)


def _check_mocked(components: Section, path: str) -> None:
    mocked = components.section(path)
    if mocked is None:
        return
    for key in ("input_schema", "output_schema"):
        mocked.get(key)
    behaviors = mocked.section("behaviors")
    mocked.warn_unknown()
    if behaviors is None:
        return
    try:
        MockPlugin({path: {"behaviors": behaviors.without()}})
    except ConfigError as error:
        for problem in error.problems:
            behaviors.problems.add(behaviors.path, problem.message, problem.remedy)


def _check_python(section: Section) -> None:
    check_app(section, section.text("app", required=True))
    for key in ("threads", "processes"):
        if section.get(key) is not None:
            section.integer(key, 1, least=1)


def check_app(section: Section, app: str | None) -> None:
    """Whether the text at the key `app` can be a registry's name."""
    if app is None:
        return
    module, colon, attribute = app.partition(":")
    if not (colon and module and attribute) or any(not part.isidentifier() for part in _names(module, attribute)):
        section.problems.add(
            (*section.path, "app"), 'app has to be "module:registry", such as "my_package.components:app"'
        )


def _names(module: str, attribute: str) -> tuple[str, ...]:
    return (*module.split("."), *attribute.split("."))


def _check_grpc(section: Section) -> None:
    section.text("queueName", required=True)
    _check_subprocess(section)
    for key in ("replicas", "maxConcurrent", "maxQueueLength"):
        section.integer(key, 1, least=1)
    _check_timeouts(section)


def _check_nats(section: Section) -> None:
    section.text("url", required=True)
    section.text("stream")
    section.text("consumer", required=True)
    _check_subprocess(section)
    _check_timeouts(section)


def _check_mcp(section: Section) -> None:
    section.text("command", required=True)
    section.texts("args")
    section.text_map("env")


def _check_subprocess(section: Section) -> None:
    section.text("command")
    section.texts("args")
    section.text_map("env")


def _check_timeouts(section: Section) -> None:
    for key in ("queueTimeoutSecs", "executionTimeoutSecs"):
        section.integer(key, 1, least=1)


_CHECKS: Mapping[str, Callable[[Section], None]] = {
    "builtin": _check_builtin,
    "python": _check_python,
    "grpc": _check_grpc,
    "mcp": _check_mcp,
    "nats": _check_nats,
    "mock": _check_mock,
}
