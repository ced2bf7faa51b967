"""What the ini file of pytest says about flows."""

from pathlib import Path
from typing import Any

import pytest

from stepflow.components import Components
from stepflow.config.app import load_registry
from stepflow.errors import PluginUnavailableError
from stepflow.testing.application import read_application
from stepflow.testing.engine import ScriptedEngine


def components_of(config: pytest.Config) -> dict[str, Components]:
    """The registries of `stepflow_app` by the path they are mounted at."""
    found: dict[str, Components] = {}
    for line in config.getini("stepflow_app"):
        prefix, _, app = line.rpartition("=")
        try:
            found[prefix or "/"] = load_registry(app, _folder(config))
        except PluginUnavailableError as error:
            raise pytest.UsageError(f"stepflow_app = {line}: {error}") from None
    return found


def config_of(config: pytest.Config) -> Path | None:
    """The configuration file of `stepflow_config`."""
    name = config.getini("stepflow_config")
    return _folder(config) / name if name else None


def scripted_engine(request: pytest.FixtureRequest, components: Any) -> ScriptedEngine:
    application = read_application(components, config_of(request.config))
    return ScriptedEngine(application, folder=request.path.parent)


def _folder(config: pytest.Config) -> Path:
    return config.inipath.parent if config.inipath is not None else config.rootpath
