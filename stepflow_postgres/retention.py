"""What deletes old runs and blobs from PostgreSQL."""

from stepflow.records import RunId
from stepflow_postgres.connection import Database
from stepflow_postgres.escape import escaped


class PostgresRetention:
    """Each call is one statement, which leaves to others what they are deleting."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete(self, root_id: RunId) -> bool:
        return await self._delete(root_id=escaped(root_id), limit=1) > 0

    async def prune(self, *, ended_before: float | None = None, keep: int | None = None, limit: int = 100) -> int:
        if ended_before is None and keep is None:
            return 0
        return await self._delete(ended_before=ended_before, keep=keep, limit=limit)

    async def prune_blobs(self, *, untouched_before: float, limit: int = 100) -> int:
        asked = {"untouched_before": float(untouched_before), "limit": limit}
        return int((await self._database.write("prune_blobs", asked))[0][0])

    async def _delete(
        self,
        *,
        root_id: RunId | None = None,
        ended_before: float | None = None,
        keep: int | None = None,
        limit: int,
    ) -> int:
        beyond = _EVERYTHING if keep is None else keep
        asked = {"root_id": root_id, "ended_before": ended_before, "keep": beyond, "limit": limit}
        return int((await self._database.write("delete_trees", asked))[0][0])


_EVERYTHING = 2**62
"""A number of runs to keep that no store reaches."""
