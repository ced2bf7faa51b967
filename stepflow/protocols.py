"""Who stands at each seam. Whoever writes a backend reads this, `records` and `errors`, and nothing else."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

import msgspec

from stepflow.records import (
    Blob,
    BlobId,
    BlobType,
    ComponentInfo,
    Entries,
    ItemResult,
    Json,
    Lease,
    Outcome,
    ParentLink,
    RunId,
    RunRecord,
    RunStatus,
    Task,
    Verdict,
    Write,
)

PAGE = 1_000
"""Rows that a question is answered with at most, unless it says otherwise."""


class Clock(Protocol):
    """Time. Core code reads it and waits for it only here, so that a test can turn it."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait, on this clock."""
        ...

    def timeout(self, seconds: float, *, shield: bool = False) -> "AbstractContextManager[Deadline, bool]":
        """A scope that is cancelled when the time is over, without raising."""
        ...

    def busy(self) -> AbstractContextManager[None]:
        """While inside, work goes on that the clock can't see (a thread, a process, a socket): a turned clock waits."""
        ...


class Deadline(Protocol):
    """What `Clock.timeout` gives: whether the time ran out."""

    @property
    def cancelled_caught(self) -> bool:
        """Whether the scope was left because the time was over."""
        ...


class Chance(Protocol):
    """Everything that is drawn: jitter and ids. A seeded one makes a run repeat exactly."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def run_id(self, now: float) -> RunId:
        """A new UUID version 7 for a time in seconds since the epoch."""
        ...


class Store(Protocol):
    """The journal of every run. A run's state is whatever its journal says; nothing else is trusted after a crash."""

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        """Make every write durable in one transaction; one verdict a write, in order.

        A write is stored whole or not at all, and one run's refusal does not touch the others. A write that was
        stored before (same run, same `first`) is answered `Committed` and changes nothing.

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

    async def history(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        """The same with the rows that a checkpoint replaced, as far as they are still kept; no recovery needs them."""
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


class Owners(Protocol):
    """Who may write to a run: a lease with an epoch, which every write carries and the store checks."""

    async def claim(self, owner: str, *, root_id: RunId | None = None) -> Sequence[tuple[RunRecord, Lease]]:
        """Take over every run that has not ended and that nobody drives, sub-runs too; of one root only, if given.

        Each gets a lease of a higher epoch in one transaction: what its former owner still writes is refused.
        """
        ...


class Backend(Protocol):
    """A whole store, as `Engine(store=…)` takes it. Open it with `async with`."""

    @property
    def journal(self) -> Store:
        """Where runs are written."""
        ...

    @property
    def runs(self) -> Runs:
        """Where they are asked about."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Where content is kept."""
        ...

    @property
    def is_durable(self) -> bool:
        """Whether what is written outlives the process, and may be read by others."""
        ...

    @property
    def owners(self) -> Owners:
        """Who says which engine drives a run."""
        ...

    async def __aenter__(self) -> "Backend": ...

    async def __aexit__(self, *exc: object) -> None: ...


class SubRun(msgspec.Struct, frozen=True):
    """A finished sub-run."""

    id: RunId
    status: RunStatus
    results: tuple[Outcome, ...]  # in item order


class Host(Protocol):
    """What a plugin may ask of the engine while it performs a task."""

    @property
    def clock(self) -> Clock:
        """The engine's clock: whatever waits, waits on it."""
        ...

    @property
    def blobs(self) -> Blobs:
        """The engine's blobs."""
        ...

    async def run_flow(
        self,
        task: Task,
        flow: "BlobId | Mapping[str, Json]",
        inputs: Sequence[Json],
        *,
        key: str | None = None,
        variables: Mapping[str, Json] | None = None,
        overrides: Json = None,
        max_concurrency: int | None = None,
    ) -> SubRun:
        """Run a flow as a sub-run of the task's run and wait for its end; the task's slot is free meanwhile.

        The flow is a stored flow's id or a document. Submitting again with the same key (of this item and step)
        finds the first submission; without a key they are numbered in the order of the calls. Variables that the
        flow declares and that are not given are passed down from the task's run.

        Raises:
            FlowInvalidError, InputInvalidError: the flow or its inputs are refused; nothing was started.
            BlobNotFoundError: no flow has this id.
            ComponentError: sub-runs are nested too deeply.
        """
        ...

    def waiting(self, task: Task, reason: str) -> AbstractAsyncContextManager[None]:
        """While inside, the task only waits: its slot is given back, and taken again at the end."""
        ...

    def report(self, task: Task, progress: Json) -> None:
        """Tell whoever watches how far the task is. Not recorded."""
        ...


class Plugin(Protocol):
    """Who answers for components.

    A plugin is opened when a step first needs it and stays open until the engine closes.
    """

    def open(self) -> AbstractAsyncContextManager[None]:
        """Entered and left by one and the same task."""
        ...

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo] | None:
        """What can be called through a route with these params; None while that is not known yet. Must be cheap."""
        ...

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        """Return once `components(params)` is known."""
        ...

    async def perform(self, task: Task, host: Host) -> Outcome:
        """Do the work. Whatever goes wrong is a `Failed`; only cancellation and bugs come out as exceptions.

        The output is plain JSON and the caller's own (see `stepflow.plugins.normal`).
        """
        ...


class Observer(Protocol):
    """Watches what happens. Called after the event is durable, on the engine's loop; must not block or raise.

    The values in an event are those of the run itself: whoever wants to change one takes a copy.
    """

    def on_event(self, run_id: RunId, event: object) -> None:
        """An event of `stepflow.execution.events`."""
        ...

    def on_progress(self, task: Task, progress: Json) -> None:
        """What a component reported of its own work."""
        ...
