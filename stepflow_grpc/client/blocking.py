"""The same client for code that blocks. Its loop runs in a thread of its own: it works in any thread and notebook."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from stepflow.engine import ListedComponent
from stepflow.execution.options import FlowLike, check_inputs
from stepflow.flow.model import Flow
from stepflow.plan.variables import VariableInfo
from stepflow.portal import Portal
from stepflow.records import Blob, BlobId, BlobType, ItemResult, Json, RunId, RunRecord
from stepflow_grpc.client.client import Client
from stepflow_grpc.client.records import Health, RunEvent, StepRecord, StoredFlow
from stepflow_grpc.client.remote_run import RemoteRun
from stepflow_grpc.client.submission import RemoteOptions, Submission
from stepflow_grpc.questions import QueueState

T = TypeVar("T")

_ONCE = 500  # inputs that are handed over at once


class SyncRemoteRun:
    """A run that was submitted through a `SyncClient`."""

    def __init__(self, client: "SyncClient", run: RemoteRun) -> None:
        self.id = run.id
        self.flow_id = run.flow_id
        self._client = client
        self._run = run

    def __repr__(self) -> str:
        return f"<SyncRemoteRun {self.id}>"

    def record(self) -> RunRecord:
        return self._client.call(self._run.record)

    def wait(self) -> RunRecord:
        return self._client.call(self._run.wait)

    def output(self) -> Json:
        return self._client.call(self._run.output)

    def results(self, *, order: str = "item") -> Iterator[ItemResult]:
        return self._client.iterate(self._run.results(order=order))

    def events(self, *, since: int = 0, sub_runs: bool = False, results: bool = False) -> Iterator[RunEvent]:
        return self._client.iterate(self._run.events(since=since, sub_runs=sub_runs, results=results))

    def cancel(self) -> RunRecord:
        return self._client.call(self._run.cancel)

    def delete(self) -> None:
        self._client.call(self._run.delete)

    def steps(self, *, item: int | None = None) -> Sequence[StepRecord]:
        return self._client.call(self._run.steps, item=item)

    def step(self, id: str, *, item: int = 0) -> StepRecord:
        return self._client.call(self._run.step, id, item=item)


class SyncClient:
    """A `Client` behind a portal: the same names, blocking. Use it with `with`.

    Args:
        url, options: as for `Client`.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self.client = Client(url, **options)
        self._portal = Portal(self.client, "client", "with SyncClient(…) as client:")

    def __enter__(self) -> Self:
        self._portal.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._portal.close()

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
        """Run a coroutine function on the client's loop and wait for what it gives.

        An interrupted wait (Ctrl-C) cancels it.
        """
        return self._portal.call(function, *args, **kwargs)

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """What an asynchronous iterator gives; each step is a hop to the client's thread."""
        return self._portal.iterate(source)

    def health(self) -> Health:
        return self.call(self.client.health)

    def store_flow(self, flow: FlowLike, *, dry_run: bool = False) -> StoredFlow:
        return self.call(self.client.store_flow, flow, dry_run=dry_run)

    def get_flow(self, flow_id: BlobId) -> Flow:
        return self.call(self.client.get_flow, flow_id)

    def variables(self, flow_id: BlobId) -> tuple[VariableInfo, ...]:
        return self.call(self.client.variables, flow_id)

    def submit(self, flow: FlowLike, inputs: Iterable[Json], **options: Unpack[RemoteOptions]) -> SyncRemoteRun:
        """See `Client.submit`. An iterator is read in the caller's own thread."""
        check_inputs(inputs)
        if isinstance(inputs, Sequence):
            return SyncRemoteRun(self, self.call(self.client.submit, flow, inputs, **options))
        flow_id = self.call(self.client.flow_id, flow)
        submission = self.call(self.client.begin, flow_id, **options)
        try:
            for some in _chunks(inputs):
                self.call(_add, submission, some)
            record = self.call(submission.finish)
        finally:
            self.call(_end, submission)
        return self.get_run(record.id)

    def run(self, flow: FlowLike, input: Json = None, **options: Unpack[RemoteOptions]) -> Json:
        return self.call(self.client.run, flow, input, **options)

    def run_batch(
        self, flow: FlowLike, inputs: Iterable[Json], **options: Unpack[RemoteOptions]
    ) -> Iterator[ItemResult]:
        """See `Client.run_batch`. An iterator is read in the caller's own thread."""
        run = self.submit(flow, inputs, **options)
        is_whole = False
        try:
            yield from run.results()
            is_whole = True
        finally:
            if not is_whole and self._portal.is_open:
                run.cancel()

    def cancel(self, run_id: RunId) -> RunRecord:
        return self.call(self.client.cancel, run_id)

    def delete(self, run_id: RunId) -> None:
        self.call(self.client.delete, run_id)

    def pause(self, run_id: RunId) -> None:
        self.call(self.client.pause, run_id)

    def resume(self, run_id: RunId) -> None:
        self.call(self.client.resume, run_id)

    def retry(self, run_id: RunId) -> SyncRemoteRun:
        return SyncRemoteRun(self, self.call(self.client.retry, run_id))

    def queues(self, *, everywhere: bool = False) -> Sequence[QueueState]:
        return self.call(self.client.queues, everywhere=everywhere)

    def get(self, run_id: RunId) -> RunRecord:
        return self.call(self.client.get, run_id)

    def get_run(self, run_id: RunId) -> SyncRemoteRun:
        return SyncRemoteRun(self, self.call(self.client.get_run, run_id))

    def list_runs(self, **filters: Any) -> Sequence[RunRecord]:
        """See `Client.list_runs`."""
        return self.call(self.client.list_runs, **filters)

    def find_run(self, text: str) -> RunId:
        return self.call(self.client.find_run, text)

    def put_blob(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        return self.call(self.client.put_blob, content, type, filename=filename)

    def put_json(self, value: Json) -> BlobId:
        return self.call(self.client.put_json, value)

    def get_blob(self, blob_id: BlobId) -> Blob:
        return self.call(self.client.get_blob, blob_id)

    def get_json(self, blob_id: BlobId) -> Json:
        return self.call(self.client.get_json, blob_id)

    def list_components(self) -> Sequence[ListedComponent]:
        return self.call(self.client.list_components)


def _chunks(inputs: Iterable[Json]) -> Iterator[list[Json]]:
    chunk: list[Json] = []
    for input in inputs:
        chunk.append(input)
        if len(chunk) == _ONCE:
            yield chunk
            chunk = []
    yield chunk


async def _add(submission: Submission, inputs: Sequence[Json]) -> None:
    for input in inputs:
        await submission.add(input)


async def _end(submission: Submission) -> None:
    submission.close()
