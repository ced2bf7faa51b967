"""Why a run stands still, asked of a store."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from stepflow.errors import RunNotFoundError
from stepflow.execution.events import Checkpointed, StepRetried, StepStarted, StepWaiting, decode_events
from stepflow.history.blockers import Facts, blockers, holding, parents_of
from stepflow.history.explanation import Blocker, Explanation
from stepflow.history.kept import ROWS, read_flow_blob
from stepflow.history.standing import UNKNOWN, Place, Retry, Standing
from stepflow.history.words import duration, plural
from stepflow.protocols import Backend
from stepflow.records import EngineRecord, Json, Ownership, RunId, RunRecord, RunStatus

CHILDREN = 10
"""Unfinished sub-runs of one run that are looked into."""

DEEPEST = 8
"""Levels of sub-runs that are looked into."""

SOUGHT = 5
"""Attempts whose beginning is sought in the part of the journal that a checkpoint replaced."""


class _Known(msgspec.Struct, frozen=True):
    """What is the same for a run and its sub-runs."""

    backend: Backend
    now: float
    ownership: Ownership | None
    engines: Sequence[EngineRecord]
    default_concurrency: int | None
    lease_ttl_s: float
    server: str | None
    typed: Callable[[str], str]


async def explain(
    backend: Backend,
    run_id: RunId,
    *,
    now: float,
    default_concurrency: int | None = None,
    lease_ttl_s: float = 6.0,
    server: str | None = None,
    ownership: Callable[[RunId], Awaitable[Ownership | None]] | None = None,
    typed: Callable[[str], str] = str,
) -> Explanation:
    """Where a run stands and what keeps it from going on, the most important first.

    Reads what recovery would read, not the whole journal.

    Args:
        now: seconds since the epoch, by the clock that the run's engine writes with.
        default_concurrency: slots of a run that was submitted without a number of its own. None: not known.
        lease_ttl_s: of the engines that share the store.
        server: where it is asked, as workers can be told. None: where the run's engine says that it can be reached.
        typed: makes a command that helps one about this store, as it was named.
        ownership: tells who has the run; absent: the store does.

    Raises:
        RunNotFoundError: no run has this id.
        StoreError: the store could not be read.
    """
    record = await backend.runs.get(run_id)
    if record is None:
        raise RunNotFoundError(run_id)
    if record.status.is_terminal:
        return _explain_end(record, now)
    known = _Known(
        backend,
        now,
        await (ownership or backend.owners.ownership)(run_id),
        await backend.owners.engines(),
        default_concurrency,
        lease_ttl_s,
        server,
        typed,
    )
    return await _explain_standing(known, record)


def _explain_end(record: RunRecord, now: float) -> Explanation:
    return Explanation(
        run_id=record.id,
        status=record.status,
        now=now,
        summary=_end(record),
        error=record.error,
        last_at=record.ended_at,
    )


async def _explain_standing(known: _Known, record: RunRecord) -> Explanation:
    found, standing, _ = await _look(known, record, DEEPEST)
    last = standing.known(standing.last_at) if standing.started is not None else None
    return Explanation(
        run_id=record.id,
        status=record.status,
        now=known.now,
        summary=_summary(record, standing, known.now, last),
        blockers=tuple(found),
        last_at=last,
    )


async def _look(known: _Known, record: RunRecord, depth: int) -> tuple[list[Blocker], Standing, int]:
    """What keeps a run and its sub-runs, what is open in it, and how many slots they hold."""
    backend = known.backend
    standing = await read_standing(backend, record.id)
    children = [
        *await backend.runs.list(parent_id=record.id, status=RunStatus.RUNNING, limit=CHILDREN),
        *await backend.runs.list(parent_id=record.id, status=RunStatus.PAUSED, limit=CHILDREN),
    ]
    below: list[Blocker] = []
    busy_below = 0
    for child in reversed(children) if depth > 0 else ():
        found, _, busy = await _look(known, child, depth - 1)
        below += found
        busy_below += busy
    facts = Facts(
        record=record,
        standing=standing,
        steps=await _step_ids(backend, record, standing),
        ownership=known.ownership,
        engines=known.engines,
        children=children[::-1],
        busy_below=busy_below,
        now=known.now,
        default_concurrency=known.default_concurrency,
        lease_ttl_s=known.lease_ttl_s,
        server=known.server,
        typed=known.typed,
    )
    own = blockers(facts)
    busy = len(holding(standing, parents_of(children))) + busy_below
    return [*own, *below], standing, busy


async def read_standing(backend: Backend, run_id: RunId) -> Standing:
    """What is open in a run, from the part of its journal that recovery would read."""
    standing, position, checkpoint = Standing(), 0, 0
    while rows := await backend.journal.read(run_id, after=position, limit=ROWS):
        for row in rows:
            for event in decode_events(row.payload)[max(0, position + 1 - row.first) :]:
                if isinstance(event, Checkpointed):
                    standing.restore(event)
                    standing.last_at, checkpoint = UNKNOWN, row.first
                else:
                    standing.apply(event)
            position = row.first + row.count - 1
    if standing.last_at == UNKNOWN:
        standing.last_at = await _time_before(backend, run_id, checkpoint)
    await _seek(backend, run_id, standing)
    return standing


async def _time_before(backend: Backend, run_id: RunId, position: int) -> int:
    """When the last event before this position happened, or UNKNOWN where the store keeps it no more."""
    rows = await backend.journal.history(run_id, after=position - 2, limit=1)
    times = [getattr(event, "at", UNKNOWN) for row in rows for event in decode_events(row.payload)]
    return max(times, default=UNKNOWN)


async def _seek(backend: Backend, run_id: RunId, standing: Standing) -> None:
    """Look up when attempts began, and retries are due, that are older than the newest checkpoint."""
    sought = [place for place, attempt in standing.under_way.items() if attempt.at == UNKNOWN]
    sought += [place for place, retry in standing.retries.items() if retry.due == UNKNOWN]
    for place in sought[:SOUGHT]:
        await _seek_one(backend, run_id, standing, place)


async def _seek_one(backend: Backend, run_id: RunId, standing: Standing, place: Place) -> None:
    position = 0
    while rows := await backend.journal.history(run_id, after=position, limit=ROWS, item=place[0]):
        for row in rows:
            for event in decode_events(row.payload):
                if isinstance(event, StepStarted | StepRetried | StepWaiting) and (event.item, event.step) == place:
                    _date(standing, place, event)
        position = rows[-1].first + rows[-1].count - 1


def _date(standing: Standing, place: Place, event: StepStarted | StepRetried | StepWaiting) -> None:
    attempt = standing.under_way.get(place)
    if isinstance(event, StepRetried):
        if place in standing.retries:
            standing.retries[place] = Retry(event.attempt + 1, event.at + 1_000 * event.delay_s, event.error)
    elif attempt is not None and isinstance(event, StepStarted):
        attempt.at, attempt.reason = event.at, ""
    elif attempt is not None and isinstance(event, StepWaiting):
        attempt.reason, attempt.waits_since = event.reason, event.at


async def _step_ids(backend: Backend, record: RunRecord, standing: Standing) -> list[str]:
    overrides: Json = None if standing.started is None else standing.started.overrides
    flow = await read_flow_blob(backend.blobs, record.flow_id, overrides)
    return [] if flow is None else [step.id for step in flow.steps]


def _end(record: RunRecord) -> str:
    took = f" after {duration(record.ended_at - record.created_at)}" if record.ended_at is not None else ""
    why = f": {record.error.code.value}: {record.error.message}" if record.error is not None else ""
    counts = f"{record.succeeded:,} items succeeded, {record.failed:,} failed"
    return f"it has ended ({record.status.value}){took}; {counts}{why}"


def _summary(record: RunRecord, standing: Standing, now: float, last: float | None) -> str:
    total = f" of {record.total:,}" if record.total is not None else ""
    under_way = f", {plural(len(standing.under_way), 'step')} under way" if standing.under_way else ""
    newest = f"; its newest event is {duration(now - last)} old" if last is not None else ""
    return f"{record.status.value}, {standing.ended:,}{total} items have ended{under_way}{newest}"
