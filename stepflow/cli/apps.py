"""`--app`: registries of components, found by module and name."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from stepflow.cli.failure import CommandError
from stepflow.components import Components
from stepflow.config.app import load_registry
from stepflow.errors import PluginUnavailableError
from stepflow.plan.suggest import did_you_mean


def load_apps(given: Sequence[str]) -> Components | Mapping[str, Components] | None:
    """One registry as it is, several by the prefix they are mounted at; None where none is given.

    Raises:
        CommandError: a module or a registry is not there, or the module cannot be imported.
    """
    mounts: dict[str, Components] = {}
    for text in given:
        prefix, place = text.split("=", 1) if text.startswith("/") and "=" in text else ("/", text)
        if prefix in mounts:
            at = "at / (write /prefix=module:registry for one of them)" if prefix == "/" else f"at {prefix}"
            raise click.UsageError(f"--app: two registries are mounted {at}", click.get_current_context())
        mounts[prefix] = load_app(place)
    if not mounts:
        return None
    return mounts["/"] if list(mounts) == ["/"] else mounts


def load_app(place: str) -> Components:
    """The registry at `module:name`; the current directory can be imported from."""
    if ":" not in place:
        message = f"--app {place}: write the module and the registry in it, such as {place or 'components'}:app"
        raise click.UsageError(message, click.get_current_context())
    try:
        return load_registry(place, Path.cwd())
    except PluginUnavailableError as error:
        raise CommandError(f"--app {place}: {error}{_where(error.__cause__)}{_meant(place)}") from error


def _meant(place: str) -> str:
    """What was probably meant by a module or a registry that is not there."""
    module_name, _, name = place.partition(":")
    module = sys.modules.get(module_name)
    if module is None:
        near = did_you_mean(module_name, sorted(path.stem for path in Path.cwd().glob("*.py")))
        return f'; did you mean "{near}:{name or "app"}"?' if near and near != module_name else ""
    registries = [found for found, value in vars(module).items() if isinstance(value, Components)]
    near = did_you_mean(name, registries) or (registries[0] if len(registries) == 1 else None)
    return f'; did you mean "{module_name}:{near}"?' if near and near != name else ""


def _where(error: BaseException | None) -> str:
    """The last line of the user's own code that the error passed through."""
    at, trace = "", error.__traceback__ if error is not None else None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<") and "stepflow/config" not in Path(file).as_posix():
            at = f" (at {file}:{trace.tb_lineno})"
        trace = trace.tb_next
    return "" if isinstance(error, ModuleNotFoundError | SyntaxError) and "importlib" in at else at
