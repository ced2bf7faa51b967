"""A host without an engine, for a plugin that is tried alone."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from stepflow.clock import SystemClock
from stepflow.errors import ComponentError
from stepflow.protocols import Blobs, Clock, SubRun
from stepflow.records import BlobId, Json, Task
from stepflow.stores.memory import MemoryBackend


class LoneHost:
    """What plugins ask of an engine, answered without one: blobs in memory, no sub-runs.

    `waits` and `reports` keep what plugins said of their tasks.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.blobs: Blobs = MemoryBackend().blobs
        self.waits: list[tuple[Task, str]] = []
        self.reports: list[tuple[Task, Json]] = []
        self.queued_s: list[tuple[Task, float]] = []

    async def run_flow(
        self,
        task: Task,
        flow: BlobId | Mapping[str, Json],
        inputs: Sequence[Json],
        *,
        key: str | None = None,
        variables: Mapping[str, Json] | None = None,
        overrides: Json = None,
        max_concurrency: int | None = None,
    ) -> SubRun:
        raise ComponentError("there is no engine here that could run a flow")

    @asynccontextmanager
    async def waiting(self, task: Task, reason: str) -> AsyncIterator[None]:
        self.waits.append((task, reason))
        yield

    def queued(self, task: Task, seconds: float) -> None:
        self.queued_s.append((task, seconds))

    def report(self, task: Task, progress: Json) -> None:
        self.reports.append((task, progress))
