"""The memory store, put together."""

from stepflow.clock import SystemClock
from stepflow.protocols import Clock
from stepflow.stores.memory.blobs import MemoryBlobs
from stepflow.stores.memory.dispatch import MemoryDispatch
from stepflow.stores.memory.inbox import MemoryInbox
from stepflow.stores.memory.journal import MemoryJournal
from stepflow.stores.memory.owners import MemoryOwners
from stepflow.stores.memory.retention import MemoryRetention
from stepflow.stores.memory.runs import MemoryRuns
from stepflow.stores.memory.signals import MemorySignals
from stepflow.stores.memory.tables import Tables


class MemoryBackend(MemoryJournal, MemoryRuns):
    """The store protocols over dictionaries, for the engines of one event loop. It may be opened several times.

    Args:
        shared: several engines may have it at once, and one that is not heard of in time is dead. Otherwise the
            engine that enters last is the only one.
        clock: says when an engine of a shared store was last heard of; the system's unless given.
        keep_events: keep entries that a checkpoint replaced, for tests that read whole journals.
        keep_runs: how many root runs that have ended are kept, with their sub-runs; older ones are dropped.
        keep_s: but none within so many seconds of its end, so that whoever waits for it can still read it.
    """

    def __init__(
        self,
        *,
        shared: bool = False,
        clock: Clock | None = None,
        keep_events: bool = False,
        keep_runs: int = 10_000,
        keep_s: float = 60.0,
    ) -> None:
        clock = clock or SystemClock()
        tables = Tables(clock, is_shared=shared)
        super().__init__(tables, keep_events=keep_events, keep_runs=keep_runs, keep_s=keep_s)
        self._blobs = MemoryBlobs(clock)
        self._owners = MemoryOwners(tables)
        self._inbox = MemoryInbox(tables)
        self._dispatch = MemoryDispatch(tables)
        self._retention = MemoryRetention(tables, self._blobs)

    @property
    def journal(self) -> "MemoryBackend":
        return self

    @property
    def runs(self) -> "MemoryBackend":
        return self

    @property
    def blobs(self) -> MemoryBlobs:
        return self._blobs

    @property
    def is_durable(self) -> bool:
        return False

    @property
    def is_shared(self) -> bool:
        return self._tables.is_shared

    @property
    def owners(self) -> MemoryOwners:
        return self._owners

    @property
    def inbox(self) -> MemoryInbox:
        return self._inbox

    @property
    def dispatch(self) -> MemoryDispatch:
        return self._dispatch

    @property
    def signals(self) -> MemorySignals:
        return self._tables.signals

    @property
    def retention(self) -> MemoryRetention:
        return self._retention

    async def __aenter__(self) -> "MemoryBackend":
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None
