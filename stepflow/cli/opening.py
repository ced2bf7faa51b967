"""An engine as the command line asks for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepflow.cli.apps import load_apps
from stepflow.config.open import open_engine
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


def engine_for(config: str | None, flow: str | None, apps: Sequence[str], **options: Any) -> Engine:
    return open_engine(chosen_config(config, flow), components=load_apps(apps), **options)
