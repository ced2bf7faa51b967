"""How a database comes to have the schema, and how it is found out which one it has.

Migrations go forward only. Engines that start at once wait for each other, and all but the first find nothing to do.
"""

import msgspec

from stepflow.errors import StoreError
from stepflow_postgres.connection import Connection, connect
from stepflow_postgres.location import Location, read_location
from stepflow_postgres.statements import in_schema, migrations, quoted

_APPLIED = "CREATE TABLE IF NOT EXISTS stepflow._migrations (name TEXT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL)"

# The catalogue's tables are read as they are now; `to_regclass` answers from what the session has seen before.
_HAS_SCHEMA = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s)"
_HAS_MIGRATIONS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = '_migrations')"


class SchemaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Which migrations a schema has had, and which are still to come."""

    shown: str  # the location, without secrets
    schema: str
    applied: tuple[str, ...]
    pending: tuple[str, ...]
    unknown: tuple[str, ...]  # those of a newer version of the package

    @property
    def is_current(self) -> bool:
        return not self.pending and not self.unknown


async def status(url: str) -> SchemaStatus:
    """What the schema is like. Changes nothing."""
    location = read_location(url)
    async with connect(location.conninfo, location.shown) as connection:
        return await schema_status(connection, location)


async def migrate(url: str) -> tuple[str, ...]:
    """Bring the schema up to date, and give the names of the migrations that this took.

    Raises:
        StoreError: a newer version of the package made the schema, or the user may not change it; it is as it was.
    """
    location = read_location(url)
    async with connect(location.conninfo, location.shown) as connection:
        return await apply_pending(connection, location)


async def apply_pending(connection: Connection, location: Location) -> tuple[str, ...]:
    schema = location.schema
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 5461))", (f"stepflow/{schema}",))
        found = await schema_status(connection, location)
        refuse_newer(found)
        if found.is_current:
            return ()
        if not await _exists(connection, _HAS_SCHEMA, schema):
            await connection.execute(f"CREATE SCHEMA {quoted(schema)}".encode())
        await connection.execute(in_schema(_APPLIED, schema).encode())
        scripts = dict(migrations())
        for name in found.pending:
            await connection.execute(in_schema(scripts[name], schema).encode())
            note = in_schema("INSERT INTO stepflow._migrations (name, applied_at) VALUES (%s, now())", schema)
            await connection.execute(note.encode(), (name,))
    return found.pending


async def schema_status(connection: Connection, location: Location) -> SchemaStatus:
    known = [name for name, _ in migrations()]
    applied: list[str] = []
    if await _exists(connection, _HAS_MIGRATIONS, location.schema):
        sql = in_schema("SELECT name FROM stepflow._migrations ORDER BY name", location.schema)
        cursor = await connection.execute(sql.encode())
        applied = [name for (name,) in await cursor.fetchall()]
    return SchemaStatus(
        shown=location.shown,
        schema=location.schema,
        applied=tuple(applied),
        pending=tuple(name for name in known if name not in applied),
        unknown=tuple(name for name in applied if name not in known),
    )


def refuse_newer(found: SchemaStatus) -> None:
    if found.unknown:
        raise StoreError(
            f"{found.shown}: a newer version made this store (it has {', '.join(found.unknown)}); "
            "run `pip install --upgrade 'stepflow-engine[postgres]'`, or name another schema (?schema=…)"
        )


def refuse_older(found: SchemaStatus) -> None:
    if found.pending:
        raise StoreError(f"{found.shown}: the schema lacks {', '.join(found.pending)}; run `stepflow migrate`")


async def _exists(connection: Connection, sql: str, name: str) -> bool:
    cursor = await connection.execute(sql.encode(), (name,))
    row = await cursor.fetchone()
    return row is not None and bool(row[0])
