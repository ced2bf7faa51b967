"""From a configuration to an engine."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stepflow.components import Components
from stepflow.config.app import load_registry
from stepflow.config.model import Config, PluginSettings
from stepflow.config.plugin_types import EXTRAS, plugin_entry_points
from stepflow.config.read import ConfigSource, load_config
from stepflow.engine import Engine
from stepflow.errors import PluginUnavailableError, Problem
from stepflow.flow.path import format_path
from stepflow.plugins.builtin.openai import OpenAISettings
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.plugins.mock import MockPlugin
from stepflow.protocols import Plugin
from stepflow.records import Json


def open_engine(
    source: ConfigSource | Config = None,
    *,
    components: Components | Mapping[str, Components] | None = None,
    environ: Mapping[str, str] | None = None,
    **options: Any,
) -> Engine:
    """An engine as a configuration describes it, to be entered with `async with`.

    Args:
        source: a file, the configuration itself, one that was loaded, or None for the builtins alone.
        components: registries mounted beside the configuration's routes.
        environ: what `${NAME}` takes its values from; absent: the environment of this process.
        options: of `Engine`; they win over the configuration.

    Raises:
        ConfigError: the configuration is refused, or a mounted registry meets one of its routes.
        StoreError: nothing installed keeps runs where it says.
    """
    environ = os.environ if environ is None else environ
    config = source if isinstance(source, Config) else load_config(source, environ=environ)
    settings: dict[str, Any] = {
        "store": config.storage.url,
        "blobs": config.storage.blobs_url,
        "retry": config.retry,
        "recovery": config.recovery,
        "retention": config.retention,
        **({} if config.secrets is None else {"secrets": config.secrets}),
        **options,
    }
    plugins = {**plugin_factories(config, environ), **settings.pop("plugins", {})}
    return Engine(components, plugins=plugins, routes=settings.pop("routes", config.routes), **settings)


def plugin_factories(config: Config, environ: Mapping[str, str]) -> dict[str, Callable[[], Plugin]]:
    """What makes each plugin when a step first needs it, by the plugin's name."""
    return {name: _Factory(settings, config, environ) for name, settings in config.plugins.items()}


def missing_plugins(config: Config) -> tuple[Problem, ...]:
    """A warning for each plugin whose type is not installed here; the steps that need it would fail."""
    installed = plugin_entry_points()
    return tuple(
        Problem(message=_not_installed(settings), path=format_path(("plugins", name, "type")), level="warning")
        for name, settings in config.plugins.items()
        if settings.type in EXTRAS and settings.type not in installed
    )


class _Factory:
    """Makes a plugin; what can't be made is not tried again."""

    def __init__(self, settings: PluginSettings, config: Config, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._config = config
        self._environ = environ
        self._failure: str | None = None

    def __call__(self) -> Plugin:
        if self._failure is None:
            try:
                return self._make()
            except PluginUnavailableError as error:
                self._failure = f'plugin "{self._settings.name}": {error}'
                raise PluginUnavailableError(self._failure) from error
        raise PluginUnavailableError(self._failure)

    def _make(self) -> Plugin:
        settings, directory = self._settings, self._config.working_directory
        match settings.type:
            case "builtin":
                openai = OpenAISettings.from_environment(self._environ)
                return BuiltinPlugin(load_roots=_load_roots(settings, self._config), openai=openai)
            case "python":
                return _functions(settings, directory)
            case "mock":
                return MockPlugin(_components(settings))
            case _:
                return _installed(settings, self._config)


def _load_roots(settings: PluginSettings, config: Config) -> tuple[Path, ...]:
    """Where `load_file` may read: below `loadRoots`, else below a `workingDirectory` that was written.

    The directory that a configuration merely happens to stand in is not given away: its secrets stand there too.
    """
    written = settings.options.get("loadRoots")
    if isinstance(written, list):
        return tuple(config.working_directory / str(root) for root in written)
    return (config.working_directory,) if config.has_working_directory else ()


def _functions(settings: PluginSettings, directory: Path) -> Plugin:
    limits: dict[str, Any] = {key: settings.options.get(key) for key in ("threads", "processes")}
    return FunctionsPlugin(load_registry(str(settings.options["app"]), directory), **limits)


def _components(settings: PluginSettings) -> dict[str, Mapping[str, Json]]:
    written = settings.options.get("components")
    components = written if isinstance(written, Mapping) else {}
    return {path: mocked if isinstance(mocked, Mapping) else {} for path, mocked in components.items()}


def _installed(settings: PluginSettings, config: Config) -> Plugin:
    """A plugin of another package, made by `factory(name=…, options=…, working_directory=…)`."""
    point = plugin_entry_points().get(settings.type)
    if point is None:
        raise PluginUnavailableError(_not_installed(settings))
    try:
        factory: Callable[..., Plugin] = point.load()
    except ImportError as error:
        raise PluginUnavailableError(f"{_not_installed(settings)} ({error})") from error
    try:
        return factory(name=settings.name, options=settings.options, working_directory=config.working_directory)
    except PluginUnavailableError:
        raise
    except Exception as error:
        raise PluginUnavailableError(f"it can't be made: {type(error).__name__}: {error}") from error


def _not_installed(settings: PluginSettings) -> str:
    extra = EXTRAS.get(settings.type)
    how = f"; pip install 'stepflow-engine[{extra}]'" if extra is not None else ""
    return f"no plugin of type {settings.type} is installed{how}"
