"""An engine as the command line asks for it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepflow.cli.apps import load_apps
from stepflow.config.open import open_engine
from stepflow.config.read import load_config
from stepflow.config.search import find_config
from stepflow.engine import Engine


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
) -> tuple[Engine, str | None]:
    """An engine whose runs are kept in the named store, else where the configuration says, and that goes on with no
    run by itself. Beside it what people call that place; None: memory.
    """
    settings = load_config(chosen_config(config, flow), environ=os.environ)
    location = store if store is not None else settings.storage.url
    engine = open_engine(settings, components=load_apps(apps), store=location, recover=False, **options)
    return engine, shown(location) if location is not None and engine.backend.is_durable else None


def shown(location: str) -> str:
    """A store's location without its password and its parameters."""
    if "://" in location:
        scheme, _, rest = location.partition("?")[0].partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"
    return location.removeprefix("sqlite:").partition("?")[0] if location.startswith("sqlite:") else location


def engine_for(config: str | None, flow: str | None, apps: Sequence[str], **options: Any) -> Engine:
    return open_engine(chosen_config(config, flow), components=load_apps(apps), **options)
