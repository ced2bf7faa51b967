"""An engine as the command line asks for it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from msgspec.structs import replace

from stepflow.cli.apps import load_apps
from stepflow.cli.place import Place
from stepflow.config.open import open_engine
from stepflow.config.read import load_config
from stepflow.config.search import find_config
from stepflow.engine import Engine
from stepflow.execution.options import RecoverySettings


def chosen_config(config: str | None, flow: str | None) -> Path | None:
    """The named configuration, else the one beside the flow or in the current directory; None: the built-in default.

    Raises:
        ConfigError: a directory has several.
    """
    if config is not None:
        return Path(config)
    return find_config(Path(flow).parent if flow is not None else None, Path.cwd())


def storing_engine(
    config: str | None, flow: str | None, apps: Sequence[str], store: str | None, **options: Any
) -> tuple[Engine, Place | None]:
    """An engine whose runs are kept in the named store, else where the configuration says, and that goes on with no
    run by itself. Beside it that place; None: memory.
    """
    settings = load_config(chosen_config(config, flow), environ=os.environ)
    location = store if store is not None else settings.storage.url
    recovery = replace(settings.recovery, enabled=False)
    engine = open_engine(settings, components=load_apps(apps), store=location, recovery=recovery, **options)
    if location is None or not engine.backend.is_durable:
        return engine, None
    return engine, Place(location, is_known=is_known(store, config))


def is_known(store: str | None, config: str | None) -> bool:
    """Whether the next command will find the store by itself."""
    if store is None:
        return config is None
    return click.get_current_context().get_parameter_source("store") is ParameterSource.ENVIRONMENT


def engine_for(config: str | None, flow: str | None, apps: Sequence[str], **options: Any) -> Engine:
    return open_engine(chosen_config(config, flow), components=load_apps(apps), **options)


def idle_engine(location: str, **options: Any) -> Engine:
    """An engine that takes over nothing by itself and has no components: for runs that no engine has."""
    return Engine(store=location, recovery=RecoverySettings(enabled=False), **options)
