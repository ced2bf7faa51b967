"""What components of a worker may ask: blobs, sub-runs, and that somebody hears how far they are."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from stepflow.errors import BlobNotFoundError, ComponentError, InputInvalidError, Problem
from stepflow.plugins.batching import BATCH
from stepflow.protocols import Chance, Clock, SubRun
from stepflow.records import Blob, BlobId, BlobType, ErrorCode, Failed, Json, Outcome, RunStatus, Task, TaskId
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.wire import STATUS_OF, fill_struct, from_value, item_of, to_value
from stepflow_grpc.worker.calls import CallFailed, Calls, Code, is_passing, is_too_large
from stepflow_grpc.worker.pauses import Pauses
from stepflow_grpc.worker.running import RunningTasks
from stepflow_grpc.worker.uploads import upload
from stepflow_grpc.worker.wire_task import WireTask

logger = logging.getLogger("stepflow.worker")

WAIT_S = 60
"""How long a server is asked to wait for the end of a sub-run, before it is asked again."""


class RemoteBlobs:
    """Blobs of an orchestrator. While it is away they are waited for."""

    def __init__(self, calls: Calls, clock: Clock, chance: Chance, url: Callable[[], str]) -> None:
        self._calls = calls
        self._clock = clock
        self._chance = chance
        self._url = url

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        request: Any = new("PutBlobRequest", blob_type=type.value, filename=filename)
        if type is BlobType.BINARY:
            request.raw_data = content
        else:
            to_value(msgspec.json.decode(content), request.json_data)
        try:
            response = await self._asked("PutBlob", request)
        except CallFailed as error:
            if not is_too_large(error):
                raise
            return await upload(self._calls.address(self._url()), content, type, filename)
        return str(response.blob_id)

    async def get(self, blob_id: BlobId) -> Blob | None:
        try:
            response = await self._asked("GetBlob", new("GetBlobRequest", blob_id=blob_id))
        except CallFailed as error:
            if error.code() in (Code.NOT_FOUND, Code.INVALID_ARGUMENT):
                return None
            raise
        filename = response.filename if response.HasField("filename") else None
        if response.WhichOneof("content") == "raw_data":
            return Blob(response.blob_id, response.raw_data, BlobType.BINARY, filename)
        content = msgspec.json.encode(from_value(response.json_data))
        type = BlobType.FLOW if response.blob_type == "flow" else BlobType.DATA
        return Blob(response.blob_id, content, type, filename)

    async def _asked(self, name: str, request: Any) -> Any:
        pauses = Pauses(self._chance)
        while True:
            try:
                return await self._calls.call(self._url(), "BlobService", name, request)
            except CallFailed as error:
                if not is_passing(error):
                    raise
                logger.info("%s is tried again: %s", name, error.details())
            await self._clock.sleep(pauses.next())


class WorkerHost:
    """The `Host` of components in a worker: what it is asked, it asks the orchestrator that gave the task."""

    def __init__(
        self,
        calls: Calls,
        clock: Clock,
        chance: Chance,
        *,
        blobs: RemoteBlobs,
        orchestrators: Callable[[], Sequence[str]],
    ) -> None:
        """
        Args:
            orchestrators: where live ones are, which may know where a run has gone.
        """
        self.clock = clock
        self.blobs = blobs
        self.desk: RunningTasks | None = None  # set before the first task begins
        self.progress: Callable[[TaskId, Json], None] | None = None
        self._calls = calls
        self._chance = chance
        self._orchestrators = orchestrators

    def queued(self, task: Task, seconds: float) -> None:
        """Nothing queues here."""

    def report(self, task: Task, progress: Json) -> None:
        if self.progress is not None:
            self.progress(task.id, progress)
        logger.debug("task %s of %s: %s", task.id, task.target, progress)

    @asynccontextmanager
    async def waiting(self, task: Task, reason: str) -> AsyncIterator[None]:
        """Who waits for a place in the worker keeps the slot, for others could do the task; a batch has to fill."""
        if reason != BATCH or self.desk is None:
            yield
            return
        async with self.desk.in_batch(task.id):
            yield

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
        assert self.desk is not None
        name = key or self._next_key(task)
        async with self.desk.resting(task.id):
            flow_id = flow if isinstance(flow, str) else await self.blobs.put(_json(flow), BlobType.FLOW)
            asked: Any = new("OrchestratorSubmitRunRequest", subflow_key=f"{task.id}/{name}")
            wanted = asked.run_request
            wanted.flow_id, wanted.wait, wanted.timeout_secs = flow_id, True, WAIT_S
            for value in inputs:
                to_value(value, wanted.input.add())
            for given, value in (variables or {}).items():
                to_value(value, wanted.variables[given])
            if isinstance(overrides, dict) and overrides:
                fill_struct(overrides, wanted.overrides)
            if max_concurrency is not None:
                wanted.max_concurrency = max_concurrency
            return await SubRunCalls(self._calls, self.clock, self._chance, task, self._places(task)).run(asked)

    def _next_key(self, task: Task) -> str:
        """Calls without a key are numbered, so that a step that is run again asks for the same sub-runs."""
        assert self.desk is not None
        work = self.desk.at_work(task.id)
        if work is None:
            return "#0"
        work.sub_runs += 1
        return f"#{work.sub_runs - 1}"

    def _places(self, task: Task) -> Callable[[], Sequence[str]]:
        """Where the task's orchestrator is as far as is known, and others that may know more."""
        assert self.desk is not None
        desk = self.desk

        def places() -> Sequence[str]:
            work = desk.at_work(task.id)
            own = [] if work is None else [work.given.url]
            return [*own, *self._orchestrators()]

        return places


class SubRunCalls:
    """Submits one sub-run and waits for its end, from whichever orchestrator has the run."""

    def __init__(
        self, calls: Calls, clock: Clock, chance: Chance, task: Task, places: Callable[[], Sequence[str]]
    ) -> None:
        self._calls = calls
        self._clock = clock
        self._chance = chance
        self._task = task
        self._places = places
        self._url: str | None = None

    async def run(self, submitted: Any) -> SubRun:
        """Raises: InputInvalidError, BlobNotFoundError, ComponentError."""
        status = await self._asked("SubmitRun", submitted)
        request: Any = new(
            "OrchestratorGetRunRequest",
            run_id=status.run_id,
            wait=True,
            include_results=True,
            result_order=NUMBERS["RESULT_ORDER_BY_INDEX"],
            timeout_secs=WAIT_S,
        )
        while not STATUS_OF.get(status.status, RunStatus.RUNNING).is_terminal:
            status = await self._asked("GetRun", request)
        return SubRun(status.run_id, STATUS_OF[status.status], _outcomes(status))

    async def _asked(self, name: str, request: Any) -> Any:
        """Ask until somebody answers: the orchestrator may be away, and the run may be another's by now."""
        pauses, root_id = Pauses(self._chance), self._task.root_run_id
        metadata = _place(self._task)
        if root_id:
            request.root_run_id = root_id
        is_second = False
        while True:
            url = self._url or next(iter(self._places()))
            try:
                return await self._calls.call(
                    url, "OrchestratorService", name, request, timeout_s=WAIT_S + 20.0, metadata=metadata
                )
            except CallFailed as error:
                owner = await self._calls.owner_of(root_id, asked=(url, *self._places())) if root_id else None
                has_moved = owner is not None and owner != url
                if not is_passing(error) and (not has_moved or is_second):
                    raise _refused(error, request) from None
                is_second = not is_passing(error)
                self._url = owner
                logger.info("%s is asked again: %s", name, error.details())
            await self._clock.sleep(pauses.next())


def _place(task: Task) -> tuple[tuple[str, str], ...]:
    """Which step of which run asks, for servers that keep sub-runs in the tree of their run."""
    if isinstance(task, WireTask):
        return ()
    return (("stepflow-parent", f"{task.run_id}/{task.item}/{task.step}"),)


def _json(flow: Mapping[str, Json]) -> bytes:
    return msgspec.json.encode(flow)


def _refused(error: CallFailed, request: Any) -> Exception:
    text = error.details() or error.code().name
    if error.code() is Code.INVALID_ARGUMENT:
        return InputInvalidError([Problem(message=f"the sub-run is refused: {text}")])
    if error.code() is Code.NOT_FOUND and text.startswith("flow"):
        return BlobNotFoundError(request.run_request.flow_id)
    return ComponentError(f"the sub-run is refused: {text}", code=ErrorCode.ORCHESTRATOR_ERROR)


def _outcomes(status: Any) -> tuple[Outcome, ...]:
    missing = Failed(ErrorCode.CANCELLED, "the sub-run was cancelled")
    ended = [item_of(result) for result in status.results]
    outcomes: list[Outcome] = [missing] * max(status.items.total, len(ended))
    for result in ended:
        outcomes[result.index] = result.outcome
    return tuple(outcomes)
