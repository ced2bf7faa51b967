"""A registry by its name, `module:attribute`."""

import sys
from importlib import import_module
from pathlib import Path

from stepflow.components import Components
from stepflow.errors import PluginUnavailableError


def load_registry(app: str, directory: Path) -> Components:
    """The registry that `module:attribute` names. Modules of `directory` become importable, before all others.

    Raises:
        PluginUnavailableError: it can't be imported, or is no registry; the text says which.
    """
    module_name, colon, attribute = app.partition(":")
    if not (colon and module_name and attribute):
        raise PluginUnavailableError(f'"{app}" is no registry; write "module:registry", such as "components:app"')
    place = str(directory.absolute())
    if place not in sys.path:
        sys.path.insert(0, place)
    try:
        found: object = import_module(module_name)
    except Exception as error:
        raise PluginUnavailableError(_import_failed(app, module_name, place, error)) from error
    _refuse_namesake(app, module_name.partition(".")[0], directory)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise PluginUnavailableError(f'the registry "{app}" is not there: {found!r} has no {name}')
        found = getattr(found, name)
    if not isinstance(found, Components):
        raise PluginUnavailableError(f'"{app}" is a {type(found).__name__}, and has to be a stepflow.Components')
    return found


def _refuse_namesake(app: str, name: str, directory: Path) -> None:
    """A module of the same name that was imported before, from elsewhere, is not the one that is meant."""
    own = next((path for path in (directory / f"{name}.py", directory / name / "__init__.py") if path.is_file()), None)
    taken = getattr(sys.modules[name], "__file__", None)
    if own is not None and taken is not None and own.resolve() != Path(taken).resolve():
        raise PluginUnavailableError(
            f'the registry "{app}" is in {own}, but another module "{name}" is imported already, from {taken}; '
            "give one of them another name"
        )


def _import_failed(app: str, module: str, directory: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0]):
        return f'there is no module "{error.name}" for the registry "{app}", neither in {directory} nor installed'
    return f'the registry "{app}" can\'t be imported: {type(error).__name__}: {error}'
