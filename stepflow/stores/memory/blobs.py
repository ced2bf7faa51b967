"""Content kept in this process."""

from collections import OrderedDict

from stepflow.protocols import Clock
from stepflow.records import Blob, BlobId, BlobType, blob_id


class MemoryBlobs:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._blobs: OrderedDict[BlobId, tuple[Blob, float]] = OrderedDict()  # with when each was touched

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        id = blob_id(content)
        if self._touched(id) is None:
            self._blobs[id] = (Blob(id, bytes(content), type, filename), self._clock.now())
        return id

    async def get(self, blob_id: BlobId) -> Blob | None:
        return self._touched(blob_id)

    def _touched(self, id: BlobId) -> Blob | None:
        stored = self._blobs.get(id)
        if stored is None:
            return None
        self._blobs[id] = (stored[0], self._clock.now())
        self._blobs.move_to_end(id)
        return stored[0]

    def prune(self, untouched_before: float, limit: int) -> int:
        """Drop at most `limit` blobs that nobody put or read since, and say how many."""
        count = 0
        while self._blobs and count < limit and next(iter(self._blobs.values()))[1] < untouched_before:
            self._blobs.popitem(last=False)
            count += 1
        return count
