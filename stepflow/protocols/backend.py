"""A whole store."""

from typing import Protocol

from stepflow.protocols.dispatch import Dispatch
from stepflow.protocols.owners import Inbox, Owners
from stepflow.protocols.signals import Signals
from stepflow.protocols.store import BlobRetention, Blobs, Retention, Runs, Store


class BlobStore(Protocol):
    """Where content is kept, as `Engine(blobs=…)` takes it. Every `Backend` is one. Open it with `async with`."""

    @property
    def blobs(self) -> Blobs:
        """Where content is kept."""
        ...

    @property
    def is_durable(self) -> bool:
        """Whether what is put outlives the process."""
        ...

    @property
    def retention(self) -> BlobRetention:
        """What deletes blobs that nobody needs any more."""
        ...

    async def __aenter__(self) -> "BlobStore": ...

    async def __aexit__(self, *exc: object) -> None: ...


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
    def is_shared(self) -> bool:
        """Whether several engines may have it open at once."""
        ...

    @property
    def owners(self) -> Owners:
        """Who says which engine drives a run."""
        ...

    @property
    def inbox(self) -> Inbox:
        """Where the owners of runs are asked for something."""
        ...

    @property
    def dispatch(self) -> Dispatch:
        """Where engines hand tasks to each other."""
        ...

    @property
    def signals(self) -> Signals:
        """What wakes those who wait for another engine."""
        ...

    @property
    def retention(self) -> Retention:
        """What deletes old runs."""
        ...

    async def __aenter__(self) -> "Backend": ...

    async def __aexit__(self, *exc: object) -> None: ...
