"""`stepflow migrate`: brings a store's schema up to date."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
import click

from stepflow.cli.options import examples
from stepflow.stores.open import open_store
from stepflow.stores.sqlite.location import path_of
from stepflow_postgres.location import read_location
from stepflow_postgres.migrate import SchemaStatus, migrate, status

T = TypeVar("T")


@click.command(
    "migrate",
    epilog=examples(
        "stepflow migrate --store postgresql://stepflow@db.example/stepflow",
        "STEPFLOW_STORE=postgresql://stepflow@db.example/stepflow stepflow migrate --status",
    ),
)
@click.option(
    "--store",
    envvar="STEPFLOW_STORE",
    metavar="PATH|URL",
    help="The store. Not given: STEPFLOW_STORE.",
)
@click.option("--status", "only_status", is_flag=True, help="Only say what was applied and what is still to come.")
@click.pass_context
def command(ctx: click.Context, store: str | None, only_status: bool) -> None:
    """Bring the schema of a store up to date.

    It goes forward only, in one transaction, and waits for whoever migrates at the same moment. A SQLite file needs no
    such step: it is brought up to date whenever an engine opens it. --status ends with 1 where something is to come.
    """
    if not store:
        raise click.UsageError("name the store: --store URL, or STEPFLOW_STORE", ctx)
    if not store.startswith(("postgresql://", "postgres://")):
        click.echo(_in_file(store, ctx, only_status=only_status))
    elif only_status:
        found = _wait(partial(status, store))
        click.echo(_table(found))
        ctx.exit(0 if found.is_current else 1)
    else:
        click.echo(_wait(partial(_migrated, store)))


def _wait(ask: Callable[[], Awaitable[T]]) -> T:
    return anyio.run(ask, backend="asyncio")


async def _migrated(store: str) -> str:
    applied = await migrate(store)
    said = f"applied {', '.join(applied)}" if applied else "up to date, nothing to do"
    return f"{read_location(store).shown}: {said}"


def _table(found: SchemaStatus) -> str:
    rows = [(name, "applied") for name in found.applied if name not in found.unknown]
    rows += [(name, "applied by a newer version") for name in found.unknown]
    rows += [(name, "to come: run `stepflow migrate`") for name in found.pending]
    width = max(len(name) for name, _ in rows)
    return "\n".join([f"{found.shown}, schema {found.schema}", *(f"  {name:{width}}  {fact}" for name, fact in rows)])


def _in_file(store: str, ctx: click.Context, *, only_status: bool) -> str:
    if store.startswith("memory:") or ("://" in store and not store.startswith("sqlite:")):
        raise click.UsageError(f"only a PostgreSQL database or a SQLite file has a schema, not {store!r}", ctx)
    path = path_of(store)
    if only_status or not path.exists():
        return f"{path}: a SQLite file is brought up to date whenever an engine opens it"
    _wait(partial(_opened, store))
    return f"{path}: up to date, as a SQLite file is whenever an engine has opened it"


async def _opened(store: str) -> None:
    async with open_store(store):
        pass
