"""What deletes old runs and blobs from PostgreSQL."""

from stepflow.records import RunId
from stepflow_postgres.arrays import Ints, ints
from stepflow_postgres.connection import Database, Row
from stepflow_postgres.escape import escaped

_EVERYTHING = 2**62
"""A number of runs to keep that no store reaches."""

ROWS = 2_000
"""Events, or results, that one statement deletes at most: a run may have millions of them."""

RUNS_AT_ONCE = 100


class PostgresRetention:
    """What to delete is looked for first. One statement deletes what is still as it was, and leaves to others what
    they are deleting. A deleted run is gone at once; its rows follow in small statements, after a crash with those of
    the next."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete(self, root_id: RunId) -> bool:
        deleted = await self._delete(await self._database.ask("find_ended", {"root_id": escaped(root_id)}))
        await self._sweep()
        return deleted > 0

    async def prune(self, *, ended_before: float | None = None, keep: int | None = None, limit: int = 100) -> int:
        if ended_before is None and keep is None:
            return 0
        beyond = _EVERYTHING if keep is None else keep
        asked = {"ended_before": ended_before, "keep": beyond, "limit": limit}
        deleted = await self._delete(await self._database.ask("find_old", asked))
        await self._sweep()
        return deleted

    async def prune_blobs(self, *, untouched_before: float, limit: int = 100) -> int:
        asked = {"untouched_before": float(untouched_before), "limit": limit}
        return int((await self._database.write("prune_blobs", asked))[0][0])

    async def _delete(self, found: list[Row]) -> int:
        if not found:
            return 0
        return int((await self._database.write("delete_trees", {"nos": ints([no for (no,) in found])}))[0][0])

    async def _sweep(self) -> None:
        """Delete the rows of all runs that are gone."""
        while found := await self._database.ask("find_deleted", {"limit": RUNS_AT_ONCE}):
            nos = ints([no for (no,) in found])
            for name in ("sweep_entries", "sweep_results"):
                await self._sweep_all(name, nos)
            await self._database.write("forget_deleted", {"nos": nos})

    async def _sweep_all(self, name: str, nos: Ints) -> None:
        no, after, count = 0, -1, ROWS
        while count == ROWS:
            asked = {"nos": nos, "no": no, "after": after, "limit": ROWS}
            rows = await self._database.write(name, asked)
            count, no, after = rows[0] if rows else (0, no, after)
