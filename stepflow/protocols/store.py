"""What a store keeps of runs, and the content beside them."""

from collections.abc import Sequence
from typing import Protocol

from stepflow.records import (
    Blob,
    BlobId,
    BlobType,
    Entries,
    ItemResult,
    ParentLink,
    RunId,
    RunRecord,
    RunStatus,
    Verdict,
    Write,
)

PAGE = 1_000
"""Rows that a question is answered with at most, unless it says otherwise."""


class Store(Protocol):
    """The journal of every run. A run's state is whatever its journal says; nothing else is trusted after a crash."""

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        """Make every write durable in one transaction; one verdict a write, in order.

        A write is stored whole or not at all, and one run's refusal does not touch the others. A write that was
        stored before (same run, same `first`) is answered `Committed` and changes nothing.

        Refused as `LeaseLost`: the run's owner and epoch are not those of the lease, or the lease's owner is an
        engine that was fenced. Refused as `KeyTaken`: a first write with a key, where the newest root run with that
        key is another than `Write.supersedes`. Who waits for the end of a run or for a message to an engine is woken
        after the commit.

        Raises:
            StoreUnavailableError: it may or may not have written; repeat the same writes.
        """
        ...

    async def read(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        """The packed rows with an entry beyond position `after`, oldest first, at most `limit`; empty: no more.

        The first row may begin at or before `after`. Rows that a checkpoint replaced may be gone; the first row of a
        run and rows that hold inputs of unfinished items never are.
        """
        ...

    async def history(
        self, run_id: RunId, *, after: int = 0, limit: int = PAGE, item: int | None = None
    ) -> Sequence[Entries]:
        """The same with the rows that a checkpoint replaced, as far as they are still kept; no recovery needs them.

        With `item`, only the rows whose items include it.
        """
        ...


class Runs(Protocol):
    """Questions about runs. None of these is asked on the hot path."""

    async def get(self, run_id: RunId) -> RunRecord | None:
        """The run's row; None: no run has this id."""
        ...

    async def find(self, prefix: str) -> Sequence[RunId]:
        """Ids of at most two root runs that begin so; `last` gives the newest root run."""
        ...

    async def find_child(self, parent: ParentLink) -> RunRecord | None:
        """The newest sub-run with this link: run, item, step and key."""
        ...

    async def find_key(self, key: str) -> RunRecord | None:
        """The newest root run that was submitted with this key."""
        ...

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
        """Newest first, at most `limit`; `before` is the last id of the page before this one."""
        ...

    async def results(self, run_id: RunId, *, after: int = -1, limit: int = PAGE) -> Sequence[ItemResult]:
        """The results stored so far of items beyond `after`, in item order, at most `limit`; empty: no more."""
        ...

    async def completed(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[tuple[int, ItemResult]]:
        """The results stored so far in the order they came, each with its place in that order, from 1 on.

        Those beyond place `after`, at most `limit`; empty: no more.
        """
        ...

    async def forget_results(self, run_id: RunId, *, through: int) -> None:
        """Results up to this item were delivered and will not be asked for again. A durable store keeps them."""
        ...


class Blobs(Protocol):
    """Content by its id. Storing the same bytes again changes nothing: the first type wins."""

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        """Keep the bytes, and give their id, which is `stepflow.records.blob_id(content)`."""
        ...

    async def get(self, blob_id: BlobId) -> Blob | None:
        """The blob of this id, in lower case; None: there is none."""
        ...


class BlobRetention(Protocol):
    """Deletes blobs that nobody needs any more, a little at a time."""

    async def prune_blobs(self, *, untouched_before: float, limit: int = 100) -> int:
        """Delete at most `limit` blobs that nobody put or read since, and say how many. Call it until it gives 0."""
        ...


class Retention(BlobRetention, Protocol):
    """Deletes what nobody needs any more, a little at a time."""

    async def delete(self, root_id: RunId) -> bool:
        """Delete a root run that has ended, with its sub-runs, events and results. False: there is none, or it goes on.

        Blobs stay: other runs may use the same.
        """
        ...

    async def prune(self, *, ended_before: float | None = None, keep: int | None = None, limit: int = 100) -> int:
        """Delete at most `limit` root runs, oldest first, and say how many: those that ended before this time (in
        seconds since the epoch), and those beyond the newest `keep` that have ended. Call it until it gives 0.
        """
        ...
