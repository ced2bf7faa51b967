"""What deletes the old runs and blobs of a memory store."""

from itertools import islice
from math import inf

from stepflow.records import RunId
from stepflow.stores.memory.blobs import MemoryBlobs
from stepflow.stores.memory.tables import Tables


class MemoryRetention:
    def __init__(self, tables: Tables, blobs: MemoryBlobs) -> None:
        self._tables = tables
        self._blobs = blobs

    async def delete(self, root_id: RunId) -> bool:
        if not self._is_over(root_id):
            return False
        self._tables.drop(root_id)
        return True

    async def prune(self, *, ended_before: float | None = None, keep: int | None = None, limit: int = 100) -> int:
        ended = self._tables.ended
        before = -inf if ended_before is None else ended_before
        beyond = 0 if keep is None else len(ended) - keep
        old = (id for place, (id, ended_at) in enumerate(ended.items()) if place < beyond or ended_at < before)
        pruned = list(islice(filter(self._is_over, old), limit))
        for root_id in pruned:
            self._tables.drop(root_id)
        return len(pruned)

    def _is_over(self, root_id: RunId) -> bool:
        """Whether a root run has ended with all its sub-runs."""
        return root_id in self._tables.ended and root_id not in self._tables.unfinished

    async def prune_blobs(self, *, untouched_before: float, limit: int = 100) -> int:
        return self._blobs.prune(untouched_before, limit)
