"""Who drives the runs of a SQLite file."""

import sqlite3

from stepflow.records import Lease, RunRecord
from stepflow.stores.sqlite.runs import record_of
from stepflow.stores.sqlite.statements import statement

_UNFINISHED = "WHERE status IN ('running', 'paused') ORDER BY id"


def claim_unfinished(conn: sqlite3.Connection, owner: str) -> list[tuple[RunRecord, Lease]]:
    """Give every run that has not ended to an engine, under an epoch of its own; oldest first."""
    conn.execute(statement("claim_runs"), (owner,))
    rows = conn.execute(f"{statement('select_runs')} {_UNFINISHED}").fetchall()
    return [(record_of(row), Lease(owner, row[-1])) for row in rows]
