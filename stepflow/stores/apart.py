"""A store whose blobs are kept in another one."""

from contextlib import AsyncExitStack
from typing import Self

from stepflow.errors import StoreError
from stepflow.protocols import Backend, Blobs, BlobStore, Dispatch, Inbox, Owners, Retention, Runs, Signals, Store
from stepflow.records import Blob, BlobId, BlobType, RunId
from stepflow.stores.whereabouts import Whereabouts


class BackendWithBlobs:
    """Runs here, blobs there. Flows stay beside the runs: no run can be read, or gone on with, without its flow.

    Raises:
        StoreError: the blobs would be gone when the process ends, and the runs that name them would not.
    """

    def __init__(self, runs: Backend, blobs: BlobStore) -> None:
        if runs.is_durable and not blobs.is_durable:
            raise StoreError(
                "the runs are kept and their blobs would not be: name a directory or a database for the blobs, or "
                "leave them out, which keeps them beside the runs"
            )
        self._backend = runs
        self._store = blobs
        self._opened = AsyncExitStack()
        self._blobs = _Blobs(runs.blobs, blobs.blobs)
        self._whereabouts = Whereabouts(runs.blobs, blobs)
        self._retention = _Retention(runs.retention, blobs, self._whereabouts)

    @property
    def whereabouts(self) -> Whereabouts:
        """What is noted of where the blobs are."""
        return self._whereabouts

    @property
    def journal(self) -> Store:
        return self._backend.journal

    @property
    def runs(self) -> Runs:
        return self._backend.runs

    @property
    def blobs(self) -> Blobs:
        return self._blobs

    @property
    def is_durable(self) -> bool:
        return self._backend.is_durable

    @property
    def is_shared(self) -> bool:
        return self._backend.is_shared

    @property
    def owners(self) -> Owners:
        return self._backend.owners

    @property
    def inbox(self) -> Inbox:
        return self._backend.inbox

    @property
    def dispatch(self) -> Dispatch:
        return self._backend.dispatch

    @property
    def signals(self) -> Signals:
        return self._backend.signals

    @property
    def retention(self) -> Retention:
        return self._retention

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._store)
            await stack.enter_async_context(self._backend)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._opened.aclose()


class _Blobs:
    def __init__(self, runs: Blobs, apart: Blobs) -> None:
        self._runs = runs
        self._apart = apart

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        store = self._runs if type is BlobType.FLOW else self._apart
        return await store.put(content, type, filename=filename)

    async def get(self, blob_id: BlobId) -> Blob | None:
        """What was put beside the runs before there was another store is found too."""
        return await self._runs.get(blob_id) or await self._apart.get(blob_id)


class _Retention:
    def __init__(self, runs: Retention, apart: BlobStore, whereabouts: Whereabouts) -> None:
        self._runs = runs
        self._apart = apart
        self._whereabouts = whereabouts

    async def delete(self, root_id: RunId) -> bool:
        return await self._runs.delete(root_id)

    async def prune(self, *, ended_before: float | None = None, keep: int | None = None, limit: int = 100) -> int:
        return await self._runs.prune(ended_before=ended_before, keep=keep, limit=limit)

    async def prune_blobs(self, *, untouched_before: float, limit: int = 100) -> int:
        await self._whereabouts.keep()
        count = await self._runs.prune_blobs(untouched_before=untouched_before, limit=limit)
        if count == limit:
            return count
        return count + await self._apart.retention.prune_blobs(untouched_before=untouched_before, limit=limit - count)


def whereabouts(backend: Backend) -> Whereabouts:
    """What is noted of where a store's blobs are, whether that is beside its runs or not."""
    return backend.whereabouts if isinstance(backend, BackendWithBlobs) else Whereabouts(backend.blobs, None)
