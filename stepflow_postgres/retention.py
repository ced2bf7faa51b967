"""What deletes old runs and blobs from PostgreSQL."""

from stepflow.records import RunId
from stepflow_postgres.arrays import ints
from stepflow_postgres.connection import Database, Row
from stepflow_postgres.escape import escaped

_EVERYTHING = 2**62
"""A number of runs to keep that no store reaches."""


class PostgresRetention:
    """What to delete is looked for first. One statement deletes what is still as it was, and leaves to others what
    they are deleting."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete(self, root_id: RunId) -> bool:
        return await self._delete(await self._database.ask("find_ended", {"root_id": escaped(root_id)})) > 0

    async def prune(self, *, ended_before: float | None = None, keep: int | None = None, limit: int = 100) -> int:
        if ended_before is None and keep is None:
            return 0
        beyond = _EVERYTHING if keep is None else keep
        return await self._delete(
            await self._database.ask("find_old", {"ended_before": ended_before, "keep": beyond, "limit": limit})
        )

    async def prune_blobs(self, *, untouched_before: float, limit: int = 100) -> int:
        asked = {"untouched_before": float(untouched_before), "limit": limit}
        return int((await self._database.write("prune_blobs", asked))[0][0])

    async def _delete(self, found: list[Row]) -> int:
        if not found:
            return 0
        return int((await self._database.write("delete_trees", {"nos": ints([no for (no,) in found])}))[0][0])
