"""Which store, or which server, a command is about."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from stepflow.cli.failure import CommandError, say
from stepflow.cli.opening import chosen_config, is_known
from stepflow.cli.place import Place
from stepflow.cli.runs.server import desk_at
from stepflow.config.read import load_config
from stepflow.errors import RunNotFoundError
from stepflow.protocols import Backend
from stepflow.records import RunId
from stepflow.stores.find import find_run as run_of
from stepflow.stores.open import open_reader
from stepflow.stores.sqlite.location import path_of
from stepflow.stores.sqlite.schema import APPLICATION_ID

_HEADER = b"SQLite format 3\0"
_SERVER = "STEPFLOW_URL"
_ID_AT = 68  # bytes into the file: SQLite's application id


def asked_place(store: str | None, config: str | None, url: str | None) -> Place:
    """The server of --url, else the store of --store or STEPFLOW_STORE, else the server of STEPFLOW_URL where no
    configuration is named, else as `named_place`.

    Raises:
        click.UsageError: a server and a store are named.
    """
    if url is not None:
        _refuse_other(store, config)
        return Place(url, is_server=True)
    server = os.environ.get(_SERVER)
    if server and store is None and config is None:
        return Place(server, is_known=True, is_server=True)
    return named_place(store, config, remedy="write --store FILE or --url HOST:PORT, or set STEPFLOW_STORE")


def named_place(
    store: str | None,
    config: str | None,
    *,
    remedy: str = "write --store FILE or --store URL, or set STEPFLOW_STORE",
) -> Place:
    """The store of --store or STEPFLOW_STORE, else of the configuration, else the one that lies here.

    Raises:
        CommandError: there is none, or there are several.
        ConfigError: the configuration is refused.
    """
    if store is not None:
        return Place(store, is_known=is_known(store, config))
    url = load_config(chosen_config(config, None), environ=os.environ).storage.url
    if url is not None:
        return Place(url, is_known=is_known(store, config))
    found = stores_in(Path.cwd())
    if len(found) == 1:
        say(f"store: {found[0]} (the only one here; --store names another)")
        return Place(found[0], is_known=True)
    if found:
        raise CommandError(f"there are several stores here: {', '.join(found)}; name one with --store")
    raise CommandError(f"no store is named: {remedy}")


def refuse_missing(place: Place) -> None:
    """Whoever opens a SQLite file with an engine makes it where it is not. Raises: CommandError."""
    is_file = place.location.startswith("sqlite:") or not ("://" in place.location or place.location == "memory:")
    if is_file and not path_of(place.location).exists():
        raise CommandError(f"{place.name}: there is no such file")


def _refuse_other(store: str | None, config: str | None) -> None:
    is_said = store is not None and not is_known(store, config)
    if is_said or config is not None:
        context = click.get_current_context()
        raise click.UsageError(f"--url and {'--store' if is_said else '--config'} exclude each other", context)


def stores_in(folder: Path) -> list[str]:
    """The names of the SQLite files below that hold runs."""
    return sorted(path.name for path in folder.glob("*.db") if _is_store(path))


def _is_store(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError:
        return False
    return header.startswith(_HEADER) and int.from_bytes(header[_ID_AT : _ID_AT + 4]) == APPLICATION_ID


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Backend]:
    """The store, to look at runs and to ask their owners, beside the engines that have it; or a server's.

    Raises:
        StoreError: it can't be opened so.
        StepflowError: the server can't be asked.
    """
    async with desk_at(place.location).reader() if place.is_server else open_reader(place.location) as backend:
        yield backend


async def find_run(backend: Backend, text: str, place: Place) -> RunId:
    """The run that a text names: an id, a beginning that only one has, or `last`; sub-runs have only their ids.

    Raises:
        CommandError: there is none.
        AmbiguousRunError: there are several.
    """
    asked = text.strip().lower()
    try:
        return await run_of(backend.runs, asked)
    except RunNotFoundError:
        if await backend.runs.get(asked) is not None:
            return asked
    if asked == "last":
        raise CommandError(f"there are no runs {place.where}")
    how = place.line("stepflow runs list")
    raise CommandError(f"no run {place.where} has an id that begins with {text}; see: {how}")
