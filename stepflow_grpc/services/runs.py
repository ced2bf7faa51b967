"""Runs: submitted, asked about, waited for, cancelled."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from stepflow.engine import Engine
from stepflow.errors import RunNotFoundError
from stepflow.execution.handle import Run
from stepflow.flow.identity import flow_to_json
from stepflow.flow.read import flow_from_json
from stepflow.protocols import Clock
from stepflow.records import ItemResult, Json, ParentLink, RunId, RunRecord
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.refusals import CallError, Code, invalid, not_found, run_id_of
from stepflow_grpc.services.beside import KEY, said
from stepflow_grpc.services.blobs import blob_id_of
from stepflow_grpc.services.flows import stored_flow
from stepflow_grpc.services.room import Room
from stepflow_grpc.services.steps import EventStream, is_small, item_ends, step_statuses
from stepflow_grpc.services.watchers import Watchers
from stepflow_grpc.wire import (
    STATUS_OF,
    UnfitError,
    fill_results,
    fill_struct,
    from_struct,
    from_value,
    item_message,
    summary,
    timestamp,
)

DEFAULT_CONCURRENCY = 10
"""Of runs that come through the protocol and say nothing else, as with the reference server."""

DEFAULT_WAIT_S = 300
MOST_LISTED = 10_000
"""Runs in an answer to who gives no limit: about what fits into a message that every client takes."""

_BY_COMPLETION = NUMBERS["RESULT_ORDER_BY_COMPLETION"]


async def create_run(engine: Engine, request: Any, *, key: str | None = None, room: Room | None = None) -> Run:
    """Submit what a `CreateRunRequest` says. Raises: CallError, StepflowError."""
    flow = await stored_flow(engine, blob_id_of(request.flow_id))
    if room is not None:
        room.check(flow)
    concurrency = request.max_concurrency if request.HasField("max_concurrency") else DEFAULT_CONCURRENCY
    return await engine.submit(
        flow,
        [from_value(value) for value in request.input],
        variables={name: from_value(value) for name, value in request.variables.items()},
        overrides=_overrides_of(request),
        max_concurrency=max(1, concurrency),
        validation="warn",
        key=key,
    )


def _overrides_of(request: Any) -> Json:
    """By step below `steps`, as the protocol has them. Raises: CallError."""
    overrides = from_struct(request.overrides) if request.HasField("overrides") else None
    if overrides and "steps" not in overrides:
        found = ", ".join(map(repr, list(overrides)[:3]))
        remedy = 'write {"steps": {"<step id>": {"value": {…}}}}'
        raise invalid(f"the overrides have no 'steps', but {found}: {remedy}", "overrides")
    return overrides


async def sub_run_of(engine: Engine, link: ParentLink, request: Any) -> Run:
    """Submit what a `CreateRunRequest` says below a step of a run that is driven here.

    Raises: CallError, StepflowError.
    """
    flow = await stored_flow(engine, blob_id_of(request.flow_id))
    return await engine.submit_sub_run(
        link.run_id,
        link.item,
        link.step,
        flow,
        [from_value(value) for value in request.input],
        key=link.key or None,
        variables={name: from_value(value) for name, value in request.variables.items()},
        overrides=from_struct(request.overrides) if request.HasField("overrides") else None,
        max_concurrency=max(1, request.max_concurrency) if request.HasField("max_concurrency") else None,
    )


async def wait_for(run: Run, clock: Clock, request: Any) -> RunRecord:
    """The run's record at its end, or when the time that the request gives is over: no error either way."""
    wait_s = request.timeout_secs if request.HasField("timeout_secs") else DEFAULT_WAIT_S
    with clock.timeout(wait_s):
        return await run.wait()
    return await run.record()


async def results_of(run: Run, record: RunRecord, engine: Engine) -> list[ItemResult]:
    """The results that are there, in item order."""
    if record.status.is_terminal:
        return [result async for result in run.results()]
    found: list[ItemResult] = []
    while page := await engine.backend.runs.results(run.id, after=found[-1].index if found else -1):
        found.extend(page)
    return found


async def fill_items(run: Run, record: RunRecord, engine: Engine, into: Any, *, order: int = 0) -> None:
    try:
        await _fill_items(run, record, engine, into, order)
    except UnfitError as error:
        text = f"run {run.id} is {record.status.value}, and an output of it can't be told: {error}"
        remedy = "read the results with `stepflow_grpc.Client`"
        raise CallError(Code.FAILED_PRECONDITION, f"{text}; {remedy}") from None


async def _fill_items(run: Run, record: RunRecord, engine: Engine, into: Any, order: int) -> None:
    results = await results_of(run, record, engine)
    if order == _BY_COMPLETION:
        ended = [result async for result in run.results(order="completion")] if record.status.is_terminal else results
        for result in ended:
            item_message(result.index, result.outcome, into.add())
    else:
        fill_results(results, record.total or 0, into)
    ends = await item_ends(engine, record)
    for message in into if ends else ():
        if message.item_index in ends:
            message.completed_at.CopyFrom(timestamp(ends[message.item_index]))


class RunsService:
    """Runs of every engine that shares the store."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        is_ready: Callable[[], bool],
        room: Room | None = None,
        watchers: Watchers | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._is_ready = is_ready
        self._room = room
        self._watchers = watchers or Watchers()

    async def CreateRun(self, request: Any) -> Any:
        if not self._is_ready():
            raise CallError(Code.UNAVAILABLE, "the server is closing; try again")
        run = await create_run(self._engine, request, key=said(KEY), room=self._room)
        record = await self._waited(run, request) if request.wait else await run.record()
        response: Any = new("CreateRunResponse", summary=summary(record))
        if request.wait:
            await fill_items(run, record, self._engine, response.results)
        return response

    async def _waited(self, run: Run, request: Any) -> RunRecord:
        return await self._watchers.wait(wait_for(run, self._clock, request), run.id)

    async def ListRuns(self, request: Any) -> Any:
        limit = request.limit if request.HasField("limit") else MOST_LISTED
        records = await self._listed(request, limit + request.offset)
        runs = [await self._summary(record) for record in records[request.offset :]]
        return new("ListRunsResponse", runs=runs)

    async def _listed(self, request: Any, count: int) -> Sequence[RunRecord]:
        found: list[RunRecord] = []
        before: RunId | None = None
        asked: dict[str, Any] = {
            "status": STATUS_OF.get(request.status),
            "flow_name": request.flow_name if request.HasField("flow_name") else None,
            "root_id": _id_or_none(request.root_run_id),
            "parent_id": _id_or_none(request.parent_run_id),
            "roots_only": request.roots_only or (request.HasField("max_depth") and request.max_depth == 0),
        }
        while len(found) < count:
            page = await self._engine.backend.runs.list(**asked, limit=min(count - len(found), 1_000), before=before)
            if not page:
                break
            deepest = request.max_depth if request.HasField("max_depth") else None
            found.extend(page if deepest is None else [each for each in page if await self._depth(each) <= deepest])
            before = page[-1].id
        return found

    async def _depth(self, record: RunRecord) -> int:
        """How far a run is below its root."""
        depth = 0
        while record.parent is not None:
            depth += 1
            parent = await self._engine.backend.runs.get(record.parent.run_id)
            if parent is None:
                break
            record = parent
        return depth

    async def _ended_at(self, record: RunRecord) -> int:
        """The place of a run's end in its journal."""
        last = 0
        while rows := await self._engine.backend.journal.read(record.id, after=last):
            last = rows[-1].first + rows[-1].count - 1
        return last

    async def _summary(self, record: RunRecord) -> Any:
        owned = await self._engine.backend.owners.ownership(record.id)
        name = owned.engine.name if owned is not None and owned.engine is not None else None
        return summary(record, orchestrator_id=name)

    async def GetRun(self, request: Any) -> Any:
        run = await self._engine.get_run(run_id_of(request.run_id))
        record = await self._waited(run, request) if request.wait else await run.record()
        steps = await step_statuses(self._engine, record, item=None if is_small(record) else 0)
        summary = await self._summary(record)
        if record.status.is_terminal:
            summary.finished_at_seqno = await self._ended_at(record)
        return new("GetRunResponse", summary=summary, steps=steps)

    async def GetRunItems(self, request: Any) -> Any:
        response: Any = new("GetRunItemsResponse")
        run = await self._known(request.run_id)
        if run is not None:
            order = request.result_order
            await fill_items(run, await run.record(), self._engine, response.results, order=order)
        return response

    async def GetRunSteps(self, request: Any) -> Any:
        run = await self._known(request.run_id)
        if run is None:
            return new("GetRunStepsResponse")
        item = request.item_index if request.HasField("item_index") else None
        return new("GetRunStepsResponse", steps=await step_statuses(self._engine, await run.record(), item=item))

    async def _known(self, text: str) -> Run | None:
        """The run of this id; None: there is none, which these questions answer with an empty list."""
        try:
            return await self._engine.get_run(run_id_of(text))
        except RunNotFoundError:
            return None

    async def GetStepDetail(self, request: Any) -> Any:
        record = await self._engine.get(run_id_of(request.run_id))
        for status in await step_statuses(self._engine, record, item=request.item_index):
            if status.step_id == request.step_id:
                if request.HasField("asof") and request.asof > status.journal_seqno:
                    raise CallError(Code.FAILED_PRECONDITION, f"step '{request.step_id}' is not known so far yet")
                return new("GetStepDetailResponse", step=status)
        raise not_found("step", request.step_id)

    async def GetRunFlow(self, request: Any) -> Any:
        record = await self._engine.get(run_id_of(request.run_id))
        flow = flow_from_json(await stored_flow(self._engine, record.flow_id))
        response: Any = new("GetRunFlowResponse", flow_id=record.flow_id)
        fill_struct(flow_to_json(flow), response.flow)
        return response

    async def GetRunEvents(self, request: Any) -> AsyncIterator[Any]:
        run_id = run_id_of(request.run_id)
        await self._engine.get(run_id)
        async with aclosing(self._watchers.each(EventStream(self._engine, request).of(run_id))) as events:
            async for event in events:
                yield event

    async def CancelRun(self, request: Any) -> Any:
        run_id = run_id_of(request.run_id)
        await self._engine.cancel(run_id)
        return new("CancelRunResponse", summary=await self._summary(await self._engine.get(run_id)))

    async def DeleteRun(self, request: Any) -> Any:
        await self._engine.delete(run_id_of(request.run_id))
        return new("DeleteRunResponse")


def _id_or_none(text: str) -> RunId | None:
    """What can't be read as an id is no filter, as with the reference server."""
    try:
        return run_id_of(text)
    except CallError:
        return None
