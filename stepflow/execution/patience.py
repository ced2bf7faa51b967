"""Asking a store that does not answer for a while again, where nobody could do anything else."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stepflow.errors import StoreUnavailableError
from stepflow.protocols import Blobs, Clock
from stepflow.records import Blob, BlobId, BlobType

logger = logging.getLogger("stepflow.run")

T = TypeVar("T")

ASK_AGAIN_S = 0.2
"""How long to wait before a store that did not answer is asked again."""

WARN_EVERY_S = 60.0


async def patiently(clock: Clock, ask: Callable[[], Awaitable[T]]) -> T:
    """What the store answers, however long that takes. Repeating the question must be harmless."""
    warned_at: float | None = None
    while True:
        try:
            return await ask()
        except StoreUnavailableError as error:
            now = clock.now()
            if warned_at is None or now - warned_at >= WARN_EVERY_S:
                warned_at = now
                logger.warning("the store does not answer; it is asked again until it does: %s", error)
            await clock.sleep(ASK_AGAIN_S)


class PatientBlobs:
    """Blobs for components: a store that is away for a while is no failure of theirs."""

    def __init__(self, blobs: Blobs, clock: Clock) -> None:
        self._blobs = blobs
        self._clock = clock

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        return await patiently(self._clock, lambda: self._blobs.put(content, type, filename=filename))

    async def get(self, blob_id: BlobId) -> Blob | None:
        return await patiently(self._clock, lambda: self._blobs.get(blob_id))
