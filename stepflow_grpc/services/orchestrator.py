"""What workers call back for: they claim tasks, answer them, and submit runs of their own."""

from typing import Any

from stepflow.engine import Engine
from stepflow.errors import RunNotFoundError
from stepflow.protocols import Clock
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.plugin import Hub
from stepflow_grpc.queues.records import Heard, Taken
from stepflow_grpc.services.calls import CallError, Code, invalid, not_found, run_id_of
from stepflow_grpc.services.runs import create_run, fill_items, wait_for
from stepflow_grpc.services.tasks import Discoveries
from stepflow_grpc.wire import fill_run, outcome_of

_IN_PROGRESS = NUMBERS["TASK_STATUS_IN_PROGRESS"]
_ALREADY_CLAIMED = NUMBERS["TASK_STATUS_ALREADY_CLAIMED"]


class OrchestratorService:
    """Hears of tasks from workers."""

    def __init__(self, engine: Engine, hub: Hub, discoveries: Discoveries, clock: Clock) -> None:
        self._engine = engine
        self._hub = hub
        self._discoveries = discoveries
        self._clock = clock

    async def TaskHeartbeat(self, request: Any) -> Any:
        if not request.worker_id:
            raise invalid("worker_id must not be empty")
        heard = self._hub.queues.heartbeat(request.task_id, request.worker_id)
        if heard is Heard.UNKNOWN:
            raise await self._unknown(request)
        is_claimed = heard is Heard.ALREADY_CLAIMED
        status = _ALREADY_CLAIMED if is_claimed else _IN_PROGRESS
        return new("TaskHeartbeatResponse", should_abort=is_claimed, status=status)

    async def CompleteTask(self, request: Any) -> Any:
        if request.WhichOneof("result") == "list_components" and self._discoveries.answered(
            request.task_id, request.list_components
        ):
            return new("CompleteTaskResponse")
        outcome = outcome_of(request)
        if outcome is None:
            raise invalid("the task has no result: set response with its output, or error")
        if self._hub.queues.complete(request.task_id, outcome) is Taken.UNKNOWN:
            raise await self._unknown(request)
        return new("CompleteTaskResponse")

    async def _unknown(self, request: Any) -> CallError:
        """Why a task is not known: nobody waits for it, or its run is on the way to an engine."""
        missing = not_found("task", request.task_id)
        if not request.run_id:
            return missing
        record = await self._engine.backend.runs.get(run_id_of(request.run_id))
        if record is None or record.status.is_terminal or self._engine.is_driving(record.id):
            return missing
        return CallError(Code.UNAVAILABLE, f"run {record.id} is being recovered; try again")

    async def SubmitRun(self, request: Any) -> Any:
        if not request.HasField("run_request"):
            raise invalid("run_request is missing")
        await self._check_root(request)
        key = f"{request.root_run_id}/{request.subflow_key}" if request.HasField("subflow_key") else None
        run = await create_run(self._engine, request.run_request, key=key)
        wants = request.run_request
        record = await wait_for(run, self._clock, wants) if wants.wait else await run.record()
        status = fill_run(record, new("OrchestratorRunStatus"))
        if wants.wait:
            await fill_items(run, record, self._engine, status.results)
        return status

    async def GetRun(self, request: Any) -> Any:
        await self._check_root(request)
        run = await self._engine.get_run(run_id_of(request.run_id))
        record = await wait_for(run, self._clock, request) if request.wait else await run.record()
        status = fill_run(record, new("OrchestratorRunStatus"))
        if request.include_results:
            await fill_items(run, record, self._engine, status.results, order=request.result_order)
        return status

    async def _check_root(self, request: Any) -> None:
        """Whoever names a root run has to name one that goes on."""
        if not request.HasField("root_run_id"):
            return
        root_id = run_id_of(request.root_run_id)
        try:
            record = await self._engine.get(root_id)
        except RunNotFoundError:
            raise not_found("run", root_id) from None
        if record.status.is_terminal:
            raise not_found("run", root_id)
