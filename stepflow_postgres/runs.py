"""Questions about the runs in PostgreSQL."""

from collections.abc import Sequence
from typing import Any

import msgspec

from stepflow.protocols import PAGE
from stepflow.records import Failed, ItemResult, Outcome, ParentLink, RunId, RunRecord, RunStatus
from stepflow_postgres.connection import Database, Parameters
from stepflow_postgres.escape import escaped, plain
from stepflow_postgres.groups import digest_of
from stepflow_postgres.statements import statement

_outcomes = msgspec.json.Decoder(Outcome)
_failures = msgspec.json.Decoder(Failed)

_CHILD = """
parent_run = %(run_id)s AND parent_item = %(item)s AND parent_step = %(step)s
AND left(parent_key, 100) = left(%(key)s, 100) AND parent_key = %(key)s
"""


class PostgresRuns:
    """What the rows of runs and of results say."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, run_id: RunId) -> RunRecord | None:
        return await self._one("WHERE id = %(id)s", {"id": escaped(run_id)})

    async def find(self, prefix: str) -> Sequence[RunId]:
        if prefix == "last":
            rows = await self._database.ask("find_last")
        elif prefix.isascii():
            rows = await self._database.ask("find_ids", {"prefix": escaped(prefix), "beyond": escaped(prefix) + "\x7f"})
        else:
            rows = []
        return [id for (id,) in rows]

    async def find_child(self, parent: ParentLink) -> RunRecord | None:
        asked = {"run_id": parent.run_id, "item": parent.item, "step": parent.step, "key": escaped(parent.key)}
        return await self._one(f"WHERE {_CHILD} ORDER BY id DESC LIMIT 1", asked)

    async def find_key(self, key: str) -> RunRecord | None:
        where = "WHERE id = (SELECT run_id FROM stepflow._keys WHERE digest = %(digest)s)"
        return await self._one(where, {"digest": digest_of(key)})

    async def list(
        self,
        *,
        status: RunStatus | None = None,
        flow_name: str | None = None,
        root_id: RunId | None = None,
        parent_id: RunId | None = None,
        roots_only: bool = False,
        limit: int = 100,
        before: RunId | None = None,
    ) -> Sequence[RunRecord]:
        asked = {
            "status": None if status is None else status.value,
            "flow_name": None if flow_name is None else escaped(flow_name),
            "root_id": root_id,
            "parent_id": parent_id,
            "before": before,
        }
        clauses = [clause for name, clause in _CLAUSES.items() if asked[name] is not None]
        if roots_only:
            clauses.append("parent_run IS NULL")
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        rows = await self._select(f"{where} ORDER BY id DESC LIMIT %(limit)s", {**asked, "limit": limit})
        return [record_of(row) for row in rows]

    async def results(self, run_id: RunId, *, after: int = -1, limit: int = PAGE) -> Sequence[ItemResult]:
        rows = await self._database.ask("results", {"run_id": escaped(run_id), "after": after, "limit": limit})
        return [ItemResult(item, _outcomes.decode(outcome)) for item, outcome in rows]

    async def completed(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[tuple[int, ItemResult]]:
        rows = await self._database.ask("completed", {"run_id": escaped(run_id), "after": after, "limit": limit})
        return [(place, ItemResult(item, _outcomes.decode(outcome))) for place, item, outcome in rows]

    async def forget_results(self, run_id: RunId, *, through: int) -> None:
        return None

    async def _one(self, where: str, asked: Parameters) -> RunRecord | None:
        rows = await self._select(where, asked)
        return record_of(rows[0]) if rows else None

    async def _select(self, where: str, asked: Parameters) -> Sequence[tuple[Any, ...]]:
        sql = b"%b %b" % (statement("select_runs", self._database.schema), self._database.sql(where))
        return await self._database.ask_sql(sql, asked)


_CLAUSES = {
    "status": "status = %(status)s",
    "flow_name": "left(flow_name, 100) = left(%(flow_name)s, 100) AND flow_name = %(flow_name)s",
    "root_id": "(id = %(root_id)s OR (parent_run IS NOT NULL AND root_id = %(root_id)s))",
    "parent_id": "parent_run = %(parent_id)s",
    "before": "id < %(before)s",
}


def record_of(row: Sequence[Any]) -> RunRecord:
    """The run that a row of `select_runs` tells of."""
    id, root_id, flow_id, flow_name, status, parent_run, item, step, parent_key, key = row[:10]
    created_at, ended_at, total, succeeded, failed, error = row[10:16]
    group, journal_format, retry_of, is_sealed, claims = row[16:21]
    return RunRecord(
        id=id,
        root_id=root_id,
        flow_id=flow_id,
        flow_name=None if flow_name is None else plain(flow_name),
        status=RunStatus(status),
        parent=None
        if parent_run is None
        else ParentLink(run_id=parent_run, item=item, step=step, key=plain(parent_key)),
        key=None if key is None else plain(key),
        created_at=created_at,
        ended_at=ended_at,
        total=total,
        succeeded=succeeded,
        failed=failed,
        error=None if error is None else _failures.decode(error),
        group=plain(group),
        journal_format=journal_format,
        retry_of=retry_of,
        is_sealed=is_sealed,
        claims=claims,
    )
