"""Where a configuration is looked for when none is named."""

import os
from collections.abc import Iterator
from pathlib import Path

from stepflow.errors import ConfigError, Problem

NAMES = ("stepflow-config.yml", "stepflow-config.yaml", "stepflow_config.yml", "stepflow_config.yaml")


def find_config(flow_directory: str | os.PathLike[str] | None, current: str | os.PathLike[str]) -> Path | None:
    """The configuration beside the flow, else that of the current directory; None: there is none.

    Raises:
        ConfigError: the first directory that has one has several.
    """
    for directory in _directories(flow_directory, current):
        found = [directory / name for name in NAMES if (directory / name).is_file()]
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            message = f"there are several configuration files in {directory}: {names}"
            raise ConfigError([Problem(message=message, remedy="name one with --config, or keep one")])
        if found:
            return found[0]
    return None


def _directories(flow_directory: str | os.PathLike[str] | None, current: str | os.PathLike[str]) -> Iterator[Path]:
    if flow_directory is not None:
        yield Path(flow_directory)
    yield Path(current)
