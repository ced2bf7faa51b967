"""What the ini file of pytest says about flows."""

import os
from pathlib import Path
from typing import Any

import pytest

from stepflow.components import Components
from stepflow.config.app import load_registry
from stepflow.config.model import Config
from stepflow.config.read import load_config
from stepflow.errors import PluginUnavailableError
from stepflow.testing.application import read_application
from stepflow.testing.engine import ScriptedEngine

_READ = pytest.StashKey[Config]()


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


def config_file_of(config: pytest.Config) -> Path | None:
    """The configuration file of `stepflow_config`."""
    name = config.getini("stepflow_config")
    return _folder(config) / name if name else None


def scripted_engine(request: pytest.FixtureRequest, components: Any) -> ScriptedEngine:
    application = read_application(components, _config_of(request.config))
    return ScriptedEngine(application, folder=request.path.parent)


def _config_of(config: pytest.Config) -> Config | None:
    """The configuration of `stepflow_config`, read once a session."""
    file = config_file_of(config)
    if file is None:
        return None
    if _READ not in config.stash:
        config.stash[_READ] = load_config(file, environ=os.environ)
    return config.stash[_READ]


def _folder(config: pytest.Config) -> Path:
    return config.inipath.parent if config.inipath is not None else config.rootpath
