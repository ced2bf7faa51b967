"""What workers call back for: they claim tasks, answer them, and submit runs of their own."""

import logging
from collections.abc import Mapping
from functools import partial
from math import isfinite
from typing import Any, Never

import grpc.aio
import msgspec

from stepflow.engine import Engine
from stepflow.errors import ComponentError, RunNotFoundError
from stepflow.execution.handle import Run
from stepflow.protocols import Clock
from stepflow.records import ErrorCode, Failed, Json, ParentLink, RunRecord
from stepflow_grpc.answers import Answers, Verdict
from stepflow_grpc.deadlocks import Deadlocks
from stepflow_grpc.http2.methods import TooLong
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.peers import HOLDER, OWNER, REPORT, Peers
from stepflow_grpc.plugin import Hub
from stepflow_grpc.queues.records import Heard
from stepflow_grpc.refusals import CallError, Code, invalid, not_found, run_id_of
from stepflow_grpc.services.beside import FORWARDED, PARENT, said
from stepflow_grpc.services.followers import Followers
from stepflow_grpc.services.room import Room
from stepflow_grpc.services.runs import create_run, fill_items, sub_run_of, wait_for
from stepflow_grpc.services.tasks import DISCOVERY, Discoveries
from stepflow_grpc.services.watchers import Watchers
from stepflow_grpc.wire import fill_run, outcome_of, task_id_in

logger = logging.getLogger("stepflow.server")

_IN_PROGRESS = NUMBERS["TASK_STATUS_IN_PROGRESS"]
_ALREADY_CLAIMED = NUMBERS["TASK_STATUS_ALREADY_CLAIMED"]


class OrchestratorService:
    """Hears of tasks from workers, whichever engine they went through and whichever drives their runs."""

    def __init__(
        self,
        engine: Engine,
        hub: Hub,
        discoveries: Discoveries,
        clock: Clock,
        deadlocks: Deadlocks | None = None,
        watchers: Watchers | None = None,
    ) -> None:
        self._engine = engine
        self._queues = hub.queues
        self._discoveries = discoveries
        self._clock = clock
        self._answers = Answers(engine, hub.queues)
        self.peers = self._peers = Peers(engine, clock)
        self._reports = hub.reports
        self._reports.authorization = partial(said, "authorization")
        self._followers = Followers(engine)
        self._deadlocks = deadlocks or Deadlocks(engine, hub.queues, clock)
        self._room = Room(engine, hub)
        self._watchers = watchers or Watchers()

    async def run(self) -> None:
        """What goes on beside the calls, until it is cancelled."""
        await self._reports.run(self._peers.report)

    async def close(self) -> None:
        await self._followers.close()
        await self._peers.close()

    # Tasks

    async def TaskHeartbeat(self, request: Any) -> Any:
        if said(FORWARDED) == REPORT:
            self._queues.report_elsewhere(request.task_id, _json(request.status_message))
            return new("TaskHeartbeatResponse", status=_IN_PROGRESS)
        if not request.worker_id:
            raise invalid("worker_id must not be empty", "worker_id")
        if self._discoveries.is_asked(request.task_id):  # some workers claim the question before they answer it
            return new("TaskHeartbeatResponse", status=_IN_PROGRESS)
        if not self._queues.is_sent_to(request.task_id, request.worker_id):
            wants = said(FORWARDED)
            if wants == HOLDER:
                raise not_found("task", request.task_id)
            if wants is None and self._peers.may_exist and await self._may_be_elsewhere(request):
                answer = await self._peers.heartbeat(request)
                if answer is not None:
                    return answer
        heard = self._queues.heartbeat(request.task_id, request.worker_id)
        if heard is Heard.UNKNOWN:
            return await self._claimed_at_owner(request)
        is_claimed = heard is Heard.ALREADY_CLAIMED
        if not is_claimed and (progress := _progress(request)) is not None:
            self._queues.report(request.task_id, request.worker_id, progress)
        status = _ALREADY_CLAIMED if is_claimed else _IN_PROGRESS
        return new("TaskHeartbeatResponse", should_abort=is_claimed, status=status)

    async def CompleteTask(self, request: Any) -> Any:
        if request.task_id.startswith(DISCOVERY) and request.WhichOneof("result") == "list_components":
            return await self._told(request)
        outcome = outcome_of(request)
        if outcome is None:
            raise invalid("the task has no result: set response with its output, or error", "result")
        task = self._queues.task(request.task_id)
        if await self._peers.complete(request):
            return new("CompleteTaskResponse")
        if self._answers.now(request.task_id, outcome):
            if task is not None:
                await self._engine.until_recorded(task)
            return new("CompleteTaskResponse")
        if said(FORWARDED) == HOLDER:
            raise not_found("task", request.task_id)
        run_id = run_id_of(request.run_id) if request.run_id else ""
        match await self._answers.later(run_id, request.task_id, outcome):
            case Verdict.RECORDED:
                return new("CompleteTaskResponse")
            case Verdict.AGAIN:
                raise CallError(Code.UNAVAILABLE, f"the answer to task {request.task_id} can't be kept now; try again")
            case Verdict.NOBODY:
                raise not_found("task", request.task_id)

    def on_too_long(self, method: str, refused: TooLong, peer: str) -> None:
        """An answer that can't be taken fails its step, which would be done again and again for nothing."""
        if method != "CompleteTask":
            return
        task_id = task_id_in(refused.head)
        worker = self._queues.worker_of(task_id) or peer
        mib = 1024 * 1024
        text = (
            f"the answer of worker {worker!r} is too large: a message of {refused.size / mib:.1f} MiB, and "
            f"{refused.longest / mib:.1f} MiB are taken; have the component put large parts into blobs and give their "
            "ids, or raise `maxMessageBytes` of the server"
        )
        logger.warning("task %s: %s", task_id or "unknown", text)
        self._answers.now(task_id, Failed(ErrorCode.WORKER_ERROR, text, may_retry=False))

    async def _told(self, request: Any) -> Any:
        is_taken = self._discoveries.answered(request.task_id, request.list_components)
        if is_taken or (said(FORWARDED) is None and await self._peers.told(request)):
            return new("CompleteTaskResponse")
        raise not_found("task", request.task_id)

    async def _may_be_elsewhere(self, request: Any) -> bool:
        if not request.run_id:
            return True
        record = await self._engine.backend.runs.get(run_id_of(request.run_id))
        return record is not None and not record.status.is_terminal

    async def _claimed_at_owner(self, request: Any) -> Any:
        """The claim of a task that is not known here: its run is another engine's, or on the way to one."""
        if not request.run_id:
            raise not_found("task", request.task_id)
        record = await self._engine.backend.runs.get(run_id_of(request.run_id))
        if record is None or record.status.is_terminal:
            raise not_found("task", request.task_id)
        if self._engine.is_driving(record.id):
            self._refuse_here(record, request)
        if said(FORWARDED) is None and (url := await self._peers.owner(record.id)) is not None:
            return await self._forwarded(url, "TaskHeartbeat", request)
        raise CallError(Code.UNAVAILABLE, f"run {record.id} is being recovered; try again")

    def _refuse_here(self, record: RunRecord, request: Any) -> Never:
        if self._engine.has_begun(record.id, request.task_id):
            raise CallError(Code.UNAVAILABLE, f"task {request.task_id} is not given out again yet; try again")
        raise not_found("task", request.task_id)

    async def _forwarded(self, url: str, name: str, request: Any, beside: Mapping[str, str] = {}) -> Any:
        try:
            return await self._peers.call(url, name, request, wants=OWNER, beside=list(beside.items()))
        except grpc.aio.AioRpcError as error:
            raise CallError(error.code(), error.details() or "") from None

    # Runs

    async def SubmitRun(self, request: Any) -> Any:
        if not request.HasField("run_request"):
            raise invalid("run_request is missing", "run_request")
        root = await self._root(request)
        parent = said(PARENT)
        if parent is not None:
            return await self._submit_sub_run(request, parent)
        is_keyed = root is not None and request.HasField(
            "subflow_key"
        )  # a key is one of its root's: alone it means nothing
        key = f"{request.root_run_id}/{request.subflow_key}" if is_keyed else None
        run = await create_run(self._engine, request.run_request, key=key, room=self._room)
        if root is None:
            return await self._status_of(run, request.run_request)
        self._followers.follow(run.id, root.id)
        with self._deadlocks.waiting(root.id, run.id):
            return await self._status_of(run, request.run_request)

    async def _submit_sub_run(self, request: Any, parent: str) -> Any:
        """A run below the step that asks for it, at the engine that drives it. The step's slot is lent to the run."""
        link = _link_of(parent, request.subflow_key if request.HasField("subflow_key") else "")
        if not self._engine.is_driving(link.run_id):
            return await self._submitted_at_owner(request, link, parent)
        try:
            run = await sub_run_of(self._engine, link, request.run_request)
        except ComponentError as error:
            raise CallError(Code.FAILED_PRECONDITION, str(error)) from None
        return await self._status_of(run, request.run_request, link)

    async def _submitted_at_owner(self, request: Any, link: ParentLink, parent: str) -> Any:
        record = await self._engine.backend.runs.get(link.run_id)
        if record is None or record.status.is_terminal:
            raise not_found("run", link.run_id)
        if said(FORWARDED) is None and (url := await self._peers.owner(record.id)) is not None:
            asking = self._forwarded(url, "SubmitRun", request, {PARENT: parent})
            return await self._watchers.wait(asking, record.id)
        raise CallError(Code.UNAVAILABLE, f"run {record.id} is being recovered; try again")

    async def _status_of(self, run: Run, wants: Any, link: ParentLink | None = None) -> Any:
        record = await self._ended(run, wants, link) if wants.wait else await run.record()
        status = fill_run(record, new("OrchestratorRunStatus"))
        if wants.wait:
            await fill_items(run, record, self._engine, status.results)
        return status

    async def GetRun(self, request: Any) -> Any:
        parent = said(PARENT)
        if request.wait and parent is not None and (url := await self._elsewhere(parent)) is not None:
            asking = self._forwarded(url, "GetRun", request, {PARENT: parent})
            return await self._watchers.wait(asking, request.run_id)
        root = await self._root(request)
        run = await self._engine.get_run(run_id_of(request.run_id))
        record = await self._waited(run, root, request) if request.wait else await run.record()
        status = fill_run(record, new("OrchestratorRunStatus"))
        if request.include_results:
            await fill_items(run, record, self._engine, status.results, order=request.result_order)
        return status

    async def _elsewhere(self, parent: str) -> str | None:
        """Where the engine is that can lend the slot of the step that waits; None: here, or that is not known."""
        link = _link_of(parent, "")
        if said(FORWARDED) is not None or self._engine.is_driving(link.run_id):
            return None
        return await self._peers.owner(link.run_id)

    async def _waited(self, run: Run, root: RunRecord | None, request: Any) -> RunRecord:
        """Whoever waits for a sub-run of a step is that step, where it says so; its slot is lent meanwhile."""
        parent = said(PARENT)
        if parent is None:
            with self._deadlocks.waiting("" if root is None else root.id, run.id):
                return await self._ended(run, request, None)
        return await self._ended(run, request, _link_of(parent, ""))

    async def _ended(self, run: Run, wants: Any, link: ParentLink | None) -> RunRecord:
        """The run's record at its end, for whoever waits or for the step at `link`. Raises: CallError."""
        waiting = wait_for(run, self._clock, wants) if link is None else self._lent_until_end(run, wants, link)
        return await self._watchers.wait(waiting, run.id)

    async def _lent_until_end(self, run: Run, wants: Any, link: ParentLink) -> RunRecord:
        async with self._engine.lending(link.run_id, link.item, link.step):
            return await wait_for(run, self._clock, wants)

    async def _root(self, request: Any) -> RunRecord | None:
        """Whoever names a root run has to name one that goes on. None: nobody is named."""
        if not request.HasField("root_run_id"):
            return None
        root_id = run_id_of(request.root_run_id)
        try:
            record = await self._engine.get(root_id)
        except RunNotFoundError:
            raise not_found("run", root_id) from None
        if record.status.is_terminal:
            raise not_found("run", root_id)
        return record


def _progress(request: Any) -> Json:
    """How far a `TaskHeartbeatRequest` says that the task is; None: it does not."""
    share = request.progress if request.HasField("progress") and isfinite(request.progress) else None
    message = request.status_message if request.HasField("status_message") else None
    if share is None or message is None:
        return message if share is None else share
    return {"progress": share, "status_message": message}


def _json(text: str) -> Json:
    """Raises: CallError."""
    try:
        value: Json = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise invalid("what another orchestrator says of a task is no JSON", "status_message") from None
    return value


def _link_of(text: str, key: str) -> ParentLink:
    """Raises: CallError, where the text names no step."""
    run_id, _, place = text.partition("/")
    item, _, step = place.partition("/")
    if not (item.isascii() and item.isdigit() and step.isascii() and step.isdigit()):
        raise invalid(f"{text!r} names no step: write run id/item/step", PARENT)
    return ParentLink(run_id=run_id_of(run_id), item=int(item), step=int(step), key=key)
