"""The tables, indexes and views of a store, and how a file comes to have them.

Names that begin with an underscore are the store's own and may change; the views are for everybody and stay.

A row of the journal or of the results is found by one number: that of its run times 2**32, plus the position of its
first entry, or its item. So it needs no index beside the table, and a commit changes few pages: each one more is
written to the log and takes as long as a statement.
"""

from pathlib import Path

from sqlite_utils import Database, Migrations

from stepflow.errors import StoreError
from stepflow.stores.sqlite.statements import statement

APPLICATION_ID = 0x53464C57
"""Says in the file's header whose it is."""

VIEWS = ("runs", "items", "attempts", "steps")

MIGRATIONS = ("0001_tables", "0002_views")

migrations = Migrations("stepflow")


@migrations(name="0001_tables")
def _create_tables(db: Database) -> None:
    _create_runs(db)
    db.create_table(
        "_entries",
        {
            "at": int,
            "count": int,
            "min_item": int,
            "max_item": int,
            "has_inputs": int,
            "is_checkpoint": int,
            "payload": bytes,
        },
        pk="at",
        not_null=("count", "min_item", "max_item", "has_inputs", "is_checkpoint", "payload"),
    )
    db.execute("CREATE INDEX _entries_inputs ON _entries (at) WHERE has_inputs AND (at & 4294967295) > 2")
    results = db.create_table(
        "_results", {"at": int, "place_at": int, "outcome": str}, pk="at", not_null=("place_at", "outcome")
    )
    results.create_index(["place_at"], "_results_by_place", unique=True)
    db.create_table(
        "_blobs",
        {"id": str, "type": str, "filename": str, "content": bytes, "touched_at": float},
        pk="id",
        not_null=("type", "content", "touched_at"),
    )


def _create_runs(db: Database) -> None:
    runs = db.create_table(
        "_runs",
        {
            "no": int,
            "id": str,
            "root_id": str,
            "flow_id": str,
            "flow_name": str,
            "status": str,
            "parent_run": str,
            "parent_item": int,
            "parent_step": int,
            "parent_key": str,
            "key": str,
            "created_at": float,
            "ended_at": float,
            "total": int,
            "succeeded": int,
            "failed": int,
            "error": str,
            "owner": str,
            "epoch": int,
            "last": int,
            "places": int,
            "checkpoint": int,
            "low_water": int,
        },
        pk="no",
        not_null=("id", "root_id", "flow_id", "status", "created_at", "owner", "epoch"),
        defaults={"succeeded": 0, "failed": 0, "last": 0, "places": 0, "checkpoint": 0, "low_water": 0},
    )
    runs.create_index(["id"], "_runs_by_id", unique=True)
    runs.create_index(["status", "id"], "_runs_by_status")
    db.execute("CREATE INDEX _runs_by_root ON _runs (root_id, id) WHERE parent_run IS NOT NULL")
    db.execute("CREATE INDEX _runs_by_flow ON _runs (flow_name, id) WHERE flow_name IS NOT NULL")
    db.execute("CREATE INDEX _runs_by_key ON _runs (key, id) WHERE key IS NOT NULL")
    db.execute("CREATE INDEX _runs_roots ON _runs (id) WHERE parent_run IS NULL")
    db.execute(
        "CREATE INDEX _runs_by_parent ON _runs (parent_run, parent_item, parent_step, parent_key) "
        "WHERE parent_run IS NOT NULL"
    )


@migrations(name="0002_views")
def _create_views(db: Database) -> None:
    for name in VIEWS:
        db.create_view(name, statement(f"view_{name}"))


def prepare_schema(db: Database, path: Path) -> None:
    """Make an empty file a store, and bring an older store up to date.

    Raises:
        StoreError: the file is something else's, or a newer version's; it is as it was.
    """
    is_empty = db.execute("SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]
    if is_empty:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    _refuse_foreign(db, path)
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(f"{path}: the file system cannot keep a write-ahead log; put the file on a local disk")
    migrations.apply(db)


def check_schema(db: Database, path: Path) -> None:
    """Make sure that a file can be read as it is.

    Raises:
        StoreError: it is something else's, or another version's.
    """
    _refuse_foreign(db, path)
    if migrations.pending(db):
        raise StoreError(f"{path}: an older version wrote this store; an engine that opens it brings it up to date")


def _refuse_foreign(db: Database, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path}: this SQLite database is not a store of runs; name another file")
    newer = [applied.name for applied in migrations.applied(db) if applied.name not in MIGRATIONS]
    if newer:
        raise StoreError(
            f"{path}: a newer version wrote this store (it has {', '.join(newer)}); "
            "run `pip install --upgrade stepflow-engine`, or name another file"
        )
