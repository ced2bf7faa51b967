"""A run from afar: its results and events as they come, through breaks of the connection."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from stepflow.records import ErrorCode, Failed, ItemResult, RunId, RunRecord, RunStatus
from stepflow_grpc.batches import Question, frame, from_run
from stepflow_grpc.client.calls import Calls
from stepflow_grpc.client.errors import ServerBusyError, ServerUnavailableError
from stepflow_grpc.client.records import RunEvent, event_of
from stepflow_grpc.messages import NUMBERS, WORK_PACKAGE, new
from stepflow_grpc.wire import STATUS, item_of, record_of

WAIT_S = 20
"""How long one question for a run's end may stay unanswered; then it is asked again."""

_SHORTEST_LOOK_S, _LONGEST_LOOK_S = 1, 10
_AWAY = (ServerUnavailableError, ServerBusyError)
_RUNNING = {STATUS[RunStatus.RUNNING], STATUS[RunStatus.PAUSED], NUMBERS["EXECUTION_STATUS_UNSPECIFIED"]}
_ORDER = {"item": NUMBERS["RESULT_ORDER_BY_INDEX"], "completion": NUMBERS["RESULT_ORDER_BY_COMPLETION"]}


async def ended(calls: Calls, run_id: RunId) -> RunRecord:
    """The run's record, at its end."""
    while not (record := await looked_at(calls, run_id, WAIT_S)).status.is_terminal:
        pass
    return record


async def looked_at(calls: Calls, run_id: RunId, wait_s: int = 0) -> RunRecord:
    """The run's record now, or as soon as it has ended, if that is so soon."""
    waiting = {"wait": True, "timeout_secs": wait_s} if wait_s else {}
    request = new("GetRunRequest", run_id=run_id, **waiting)
    answer = await calls.unary("RunsService", "GetRun", request, longer_s=wait_s)
    return record_of(answer.summary)


async def streamed(calls: Calls, run_id: RunId, order: str) -> AsyncGenerator[ItemResult, None]:
    """Results as our server sends them, taken up again after a break."""
    patience, known = calls.patience(), 0
    while True:
        asked = frame(Question(run_id=run_id, order=order, skip=known))
        try:
            async with aclosing(calls.stream("BatchService", "Results", asked, WORK_PACKAGE)) as messages:
                async for message in messages:
                    patience.renew()
                    for result in from_run(message).results:
                        known += 1
                        yield result
            return
        except _AWAY as error:
            await patience.wait(error)


async def polled(calls: Calls, run_id: RunId, order: str) -> AsyncGenerator[ItemResult, None]:
    """Results of a server that sends them only when it is asked, and then all: it is asked less and less often."""
    known: set[int] = set()
    look_s = _SHORTEST_LOOK_S
    while True:
        is_over = (await looked_at(calls, run_id, look_s)).status.is_terminal
        results = await listed(calls, run_id, order)
        fresh = 0
        for message in results:
            if message.item_index in known:
                continue
            is_early = message.status in _RUNNING or (order == "item" and message.item_index != len(known))
            if is_early and not is_over:
                continue
            known.add(message.item_index)
            fresh += 1
            yield _result(message)
        if is_over:
            return
        look_s = _SHORTEST_LOOK_S if fresh else min(look_s * 2, _LONGEST_LOOK_S)


async def listed(calls: Calls, run_id: RunId, order: str) -> list[Any]:
    answer = await calls.unary("RunsService", "GetRunItems", run_id=run_id, result_order=_ORDER[order])
    return list(answer.results)


def _result(message: Any) -> ItemResult:
    """An item that the run's end came before has been cancelled."""
    if message.status in _RUNNING:
        return ItemResult(message.item_index, Failed(ErrorCode.CANCELLED, "the run ended before this item"))
    return item_of(message)


async def events(
    calls: Calls, run_id: RunId, *, since: int, sub_runs: bool, results: bool
) -> AsyncGenerator[RunEvent, None]:
    """What happens in a run, from a position on, until its end; taken up again after a break."""
    patience = calls.patience()
    position, seen = since, 0
    while True:
        request = _question(run_id, position, sub_runs=sub_runs, results=results)
        passed = 0
        try:
            async with aclosing(calls.stream("RunsService", "GetRunEvents", request)) as messages:
                async for message in messages:
                    patience.renew()
                    if message.sequence_number == position:
                        passed += 1
                        if passed <= seen:
                            continue
                        seen = passed
                    else:
                        position, seen, passed = message.sequence_number, 1, 1
                    event = event_of(message)
                    if event is not None:
                        yield event
            return
        except _AWAY as error:
            await patience.wait(error)


def _question(run_id: RunId, since: int, *, sub_runs: bool, results: bool) -> Any:
    fields = {"include_sub_runs": sub_runs, "include_results": results}
    return new("GetRunEventsRequest", run_id=run_id, **({"since": since} if since else {}), **fields)


Results = Callable[[Calls, RunId, str], AsyncGenerator[ItemResult, None]]
