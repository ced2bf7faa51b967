"""A host and a task for components that are tried alone."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

import pytest

from stepflow.errors import BlobNotFoundError
from stepflow.protocols import SubRun
from stepflow.records import Blob, BlobId, BlobType, Json, Outcome, RunStatus, Succeeded, Task, blob_id


class TurnedClock:
    """Time that passes only by being slept."""

    def __init__(self) -> None:
        self.time = 1_000_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    @contextmanager
    def busy(self) -> Iterator[None]:
        yield


class DictBlobs:
    def __init__(self) -> None:
        self.stored: dict[BlobId, Blob] = {}

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        id = blob_id(content)
        self.stored.setdefault(id, Blob(id, content, type, filename))
        return id

    async def get(self, blob_id: BlobId) -> Blob | None:
        return self.stored.get(blob_id)


class LoneHost:
    """What a host gives, without an engine: sub-runs answer by `answer(input)`."""

    def __init__(self) -> None:
        self.clock = TurnedClock()
        self.blobs = DictBlobs()
        self.waits: list[str] = []
        self.reports: list[Json] = []
        self.submitted: list[dict[str, object]] = []
        self.answer: Callable[[Json], Outcome] = Succeeded

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
        if isinstance(flow, str) and flow not in self.blobs.stored:
            raise BlobNotFoundError(flow)
        self.submitted.append(
            {
                "flow": flow,
                "inputs": list(inputs),
                "key": key,
                "variables": variables,
                "overrides": overrides,
                "max_concurrency": max_concurrency,
            }
        )
        results = tuple(self.answer(input) for input in inputs)
        return SubRun(f"sub-run {len(self.submitted)}", RunStatus.COMPLETED, results)

    @asynccontextmanager
    async def waiting(self, task: Task, reason: str) -> AsyncIterator[None]:
        self.waits.append(reason)
        yield

    def queued(self, task: Task, seconds: float) -> None:
        """Nothing queues here."""

    def report(self, task: Task, progress: Json) -> None:
        self.reports.append(progress)


@pytest.fixture
def host() -> LoneHost:
    return LoneHost()


@pytest.fixture
def task() -> Callable[[str, Json], Task]:
    """A task for a component's path with an input."""

    def make(target: str, input: Json = None) -> Task:
        run = "01933f2c-0000-7000-8000-000000000001"
        return Task(
            run_id=run,
            root_run_id=run,
            flow_id="0" * 64,
            item=0,
            step=0,
            step_id="step",
            component=target,
            target=target,
            input=input,
        )

    return make
