"""The tables, indexes and views of a store, and how a file comes to have them.

Names that begin with an underscore are the store's own and may change; the views are for everybody and stay.

A row of the journal or of the results is found by one number: that of its run times 2**32, plus the position of its
first entry, or its item. So it needs no index beside the table, and a commit changes few pages: each one more is
written to the log and takes as long as a statement.
"""

from pathlib import Path

from sqlite_utils import Database, Migrations

from stepflow.errors import StoreError
from stepflow.records import DEFAULT_GROUP
from stepflow.stores.sqlite.statements import statement

APPLICATION_ID = 0x53464C57
"""Says in the file's header whose it is."""

PAGE_BYTES = 2_048
"""Of a new file. A short run's commit changes a few pages and writes them whole, so smaller ones take less time; with
half of this, rows of a megabyte would take twice as long."""

CHECKPOINT_PAGES = 4 * 1024 * 1024 // PAGE_BYTES
"""Pages in the write-ahead log from which on they are taken over into the file."""

VIEWS = ("runs", "items", "attempts", "steps")

MIGRATIONS = ("0001_tables", "0002_views", "0003_owners", "0004_offered_by", "0005_queued")

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
    """Nothing: views are made by the newest migration that changes them or what they read."""


@migrations(name="0003_owners")
def _add_owners(db: Database) -> None:
    _widen_tables(db)
    _create_queues(db)
    db.create_table(
        "_engines",
        {"owner": str, "name": str, "group_name": str, "url": str, "place": str, "started_at": float},
        pk="owner",
        not_null=("name", "group_name", "place", "started_at"),
    )
    db.create_table("_deleted", {"no": int}, pk="no")


@migrations(name="0004_offered_by")
def _add_offered_by(db: Database) -> None:
    db.table("_offers").add_column("offered_by", str)


@migrations(name="0005_queued")
def _tell_queued(db: Database) -> None:
    """Make the views anew, which tell how long a task was in a queue."""
    for name in VIEWS:
        db.execute(f"DROP VIEW IF EXISTS {name}")
        db.create_view(name, statement(f"view_{name}"))


def _create_queues(db: Database) -> None:
    inbox = db.create_table(
        "_inbox",
        {"no": int, "id": str, "run_id": str, "kind": str, "payload": bytes, "sent_at": float},
        pk="no",
        not_null=("id", "run_id", "kind", "payload", "sent_at"),
    )
    inbox.create_index(["id"], "_inbox_by_id", unique=True)
    db.create_table(
        "_offers",
        {
            "task_id": str,
            "attempt": int,
            "run_id": str,
            "queue": str,
            "body": bytes,
            "answer": bytes,
            "answered": int,
        },
        pk="task_id",
        not_null=("attempt", "run_id", "queue", "body"),
    )
    db.execute("CREATE INDEX _offers_answered ON _offers (answered) WHERE answered IS NOT NULL")


def _widen_tables(db: Database) -> None:
    runs, entries, results, blobs = (db.table(name) for name in ("_runs", "_entries", "_results", "_blobs"))
    runs.add_column("group_name", str, not_null_default=DEFAULT_GROUP)
    runs.add_column("journal_format", int, not_null_default=1)
    runs.add_column("retry_of", str)
    runs.add_column("is_sealed", int, not_null_default=0)
    runs.add_column("claims", int, not_null_default=0)
    entries.add_column("written_at", float)
    entries.add_column("crc", int)
    results.add_column("crc", int)
    blobs.create_index(["touched_at"], "_blobs_by_touch")
    _create_indexes(db)


def _create_indexes(db: Database) -> None:
    """Few, and with few entries: a short run's commit costs about as much as the pages that it changes."""
    for name in ("_runs_by_id", "_runs_by_key", "_runs_by_status", "_runs_roots", "_results_by_place"):
        db.execute(f"DROP INDEX {name}")
    db.execute("CREATE INDEX _runs_by_id ON _runs (id, parent_run)")
    db.execute("CREATE INDEX _runs_by_key ON _runs (key) WHERE key IS NOT NULL AND parent_run IS NULL")
    db.execute("CREATE INDEX _runs_by_status ON _runs (status, id) WHERE status <> 'completed'")
    db.execute("CREATE INDEX _runs_by_end ON _runs (ended_at) WHERE ended_at IS NOT NULL AND parent_run IS NULL")
    db.execute("CREATE UNIQUE INDEX _results_by_place ON _results (place_at) WHERE place_at <> at + 1")


def prepare_schema(db: Database, path: Path) -> None:
    """Make an empty file a store, and bring an older store up to date.

    Raises:
        StoreError: the file is something else's, or a newer version's; it is as it was.
    """
    is_empty = db.execute("SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]
    if is_empty:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    _refuse_foreign(db, path)
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(f"{path}: the file system cannot keep a write-ahead log; put the file on a local disk")
    migrations.apply(db)
    if db.execute("SELECT EXISTS (SELECT 1 FROM _engines)").fetchone()[0]:
        db.execute("DELETE FROM _engines")  # whoever opens the file as its engine is the only one


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
