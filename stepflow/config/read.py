"""A configuration file becomes a `Config`, or every reason why not."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import TypeAlias

import msgspec

from stepflow.config.model import Config
from stepflow.config.plugin_types import read_plugins
from stepflow.config.pools import read_pools
from stepflow.config.section import Problems, Section
from stepflow.config.server import read_server
from stepflow.config.settings import (
    read_blobs,
    read_lease_manager,
    read_recovery,
    read_retention,
    read_retry,
    read_secrets,
    read_storage,
)
from stepflow.config.substitute import Substituted, substitute_all
from stepflow.errors import ConfigError, Problem
from stepflow.flow.document import Document, load_document, located
from stepflow.flow.model import Origin, Path
from stepflow.flow.path import format_path, parse_path
from stepflow.records import Json
from stepflow.routing.table import parse_routes

ConfigSource: TypeAlias = str | os.PathLike[str] | Mapping[str, Json] | None
"""A file, the configuration itself, or None for the built-in default."""

DEFAULT: Mapping[str, Json] = {
    "plugins": {"builtin": {"type": "builtin"}},
    "routes": {"/builtin": [{"plugin": "builtin"}]},
}
"""What holds where there is no configuration: the builtins, at `/builtin`."""

_log = logging.getLogger("stepflow.config")
_SHORTEST_SECRET = 4  # characters; shorter values are words that messages use anyway


def load_config(
    source: ConfigSource, *, environ: Mapping[str, str], directory: str | os.PathLike[str] | None = None
) -> Config:
    """Read and check a configuration.

    Args:
        environ: what `${NAME}` takes its values from; they never show up in problems or logs.
        directory: what the working directory is relative to; absent: the file's directory, else the current one.

    Raises:
        ConfigError: every problem of the document, each with its place.
    """
    document = _document(source)
    base = FilePath(directory or _directory(source)).absolute()
    problems = Problems()
    value, used = substitute_all(document.value, environ, is_bare=_BareStrings(document.value), refuse=problems.add)
    problems.substituted = frozenset(used)
    for path in document.repeated:
        problems.warn(path, f'"{path[-1]}" is written more than once; the last one counts')
    config = _read(Section(value, (), problems), base, document.origin.name)
    found = _masked(located(problems.found, document.origin), used, environ)
    if any(problem.level != "warning" for problem in found):
        raise ConfigError(found)
    _report(found, used, document.origin.name)
    return msgspec.structs.replace(config, warnings=found)


def _document(source: ConfigSource) -> Document:
    if source is None or isinstance(source, Mapping):
        return Document(value=dict(DEFAULT if source is None else source), origin=Origin())
    return load_document(source, error=ConfigError)


def _directory(source: ConfigSource) -> FilePath:
    if source is None or isinstance(source, Mapping):
        return FilePath.cwd()
    return FilePath(source).absolute().parent


def _read(root: Section, base: FilePath, source: str | None) -> Config:
    plugins = _required(root, "plugins")
    routes = _required(root, "routes")
    declared = read_plugins(plugins)
    directory = root.text("workingDirectory")
    read_lease_manager(root.section("leaseManager"))
    config = Config(
        source=source,
        working_directory=base / (directory or ""),
        has_working_directory=bool(directory),
        plugins=declared,
        routes=routes.without(),
        storage=read_storage(root.section("storageConfig")),
        recovery=read_recovery(root.section("recovery")),
        retention=read_retention(root.section("retention")),
        blobs=read_blobs(root.section("blobApi")),
        server=read_server(root.section("server"), base / (directory or "")),
        retry=read_retry(root.section("retry")),
        pools=read_pools(root.section("pools")),
        secrets=read_secrets(root),
    )
    root.warn_unknown()
    try:
        root.problems.found.extend(parse_routes(config.routes, plugins.keys).warnings)
    except ConfigError as error:
        root.problems.found.extend(error.problems)
    return config


def _required(root: Section, key: str) -> Section:
    value = root.get(key, required=True)
    return Section({} if value is None else value, (key,), root.problems)


class _BareStrings:
    """The arguments and environment of MCP servers, where `$NAME` has always counted."""

    def __init__(self, value: Json) -> None:
        plugins = value.get("plugins") if isinstance(value, Mapping) else None
        named = plugins.items() if isinstance(plugins, Mapping) else ()
        self._names = {name for name, item in named if isinstance(item, Mapping) and item.get("type") == "mcp"}

    def __call__(self, path: Path) -> bool:
        return len(path) == 4 and path[0] == "plugins" and path[1] in self._names and path[2] in ("args", "env")


def _masked(
    problems: tuple[Problem, ...], used: Mapping[Path, Substituted], environ: Mapping[str, str]
) -> tuple[Problem, ...]:
    """The same problems, with the text as written wherever a value of the environment was quoted."""
    hidden = {found.text: found.template for found in used.values()}
    for name in (name for found in used.values() for name in found.names):
        hidden.setdefault(environ.get(name, ""), f"${{{name}}}")
    everywhere = sorted((text for text in hidden if len(text) >= _SHORTEST_SECRET), key=len, reverse=True)
    masked: list[Problem] = []
    for problem in problems:
        here = used.get(parse_path(problem.path))
        texts = [*everywhere, *([here.text] if here is not None and here.text else [])]
        message, remedy = problem.message, problem.remedy
        for text in texts:
            message = message.replace(text, hidden[text])
            remedy = remedy and remedy.replace(text, hidden[text])
        masked.append(msgspec.structs.replace(problem, message=message, remedy=remedy))
    return tuple(masked)


def _report(warnings: tuple[Problem, ...], used: Mapping[Path, Substituted], source: str | None) -> None:
    for warning in warnings:
        _log.warning("%s", warning)
    for path, found in used.items():
        _log.debug("%s: %s comes from %s", source or "configuration", format_path(path), ", ".join(found.names))
