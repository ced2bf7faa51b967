"""What a tally comes to: the history of a run."""

from collections.abc import Iterable, Iterator

from stepflow.flow.model import Flow
from stepflow.history.records import (
    SHOWN,
    Busy,
    FailureGroup,
    History,
    ItemHistory,
    Pause,
    PendingRetry,
    Span,
    StepHistory,
    Stint,
    SubRuns,
    Waits,
)
from stepflow.history.standing import UNKNOWN, Standing
from stepflow.history.tally import OTHER_REASONS, ItemTally, Tally
from stepflow.records import RunRecord


def history_of(tally: Tally, record: RunRecord, *, flow: Flow | None, sub_runs: SubRuns, missing: int) -> History:
    standing, started = tally.standing, tally.standing.started
    return History(
        record=record,
        flow=flow,
        began=record.created_at if started is None else started.started_at,
        last_at=standing.absolute(standing.last_at),
        is_complete=not missing,
        missing=missing,
        admitted=standing.admitted,
        is_closed=standing.total is not None,
        ended=standing.ended,
        steps=_steps(tally),
        stints=_stints(standing),
        pauses=_pauses(standing),
        failures=(*_failures(tally), *_cut_short(tally, record, missing)),
        waits=_waits(tally),
        retries=_retries(standing),
        retrying=len(standing.retries),
        in_flight=tuple(_unfinished(tally, item) for item in list(tally.items.values())[:SHOWN]),
        open=len(standing.items),
        items=_items(tally),
        busy=_busy(tally),
        slowest=tuple(item.history() for *_, item in sorted(tally.slowest, reverse=True)),
        last=None if tally.last is None else tally.last.history(),
        durations=tally.durations.summary(),
        sub_runs=sub_runs,
        held=None if standing.held is None else standing.held.reason,
        max_concurrency=None if started is None else started.max_concurrency,
        retry_of=record.retry_of,
    )


def _steps(tally: Tally) -> tuple[StepHistory, ...]:
    under_way = _counted(step for _, step in tally.standing.under_way)
    retrying = _counted(step for _, step in tally.standing.retries)
    waits = _waits(tally)
    return tuple(
        StepHistory(
            index=index,
            id=tally.names[index],
            component=tally.components[index],
            ok=step.ok,
            failed=step.failed,
            skipped=step.skipped,
            defaulted=step.defaulted,
            retried=step.retried,
            lost=step.lost,
            under_way=under_way.get(index, 0),
            retrying=retrying.get(index, 0),
            waits=tuple(wait for wait in waits if wait.step == index and wait.now),
            running=step.running.summary(),
            ready=step.ready.summary(),
            queued=step.queued.summary(),
        )
        for index, step in enumerate(tally.steps)
    )


def _waits(tally: Tally) -> tuple[Waits, ...]:
    standing = tally.standing
    now: dict[tuple[int, str], tuple[int, int]] = {}
    for (_, step), attempt in standing.under_way.items():
        if attempt.reason:
            key = (step, attempt.reason)
            key = key if key in tally.waits else (step, OTHER_REASONS)
            count, since = now.get(key, (0, attempt.waits_since))
            now[key] = (count + 1, min(since, attempt.waits_since))
    return tuple(
        Waits(
            step=step,
            reason=reason,
            count=wait.count,
            now=now.get((step, reason), (0, 0))[0],
            since=standing.absolute(now.get((step, reason), (0, wait.last))[1]),
        )
        for (step, reason), wait in tally.waits.items()
    )


def _failures(tally: Tally) -> tuple[FailureGroup, ...]:
    """The most frequent first."""
    groups = sorted(tally.failures.items(), key=lambda entry: -entry[1].count)
    return tuple(
        FailureGroup(
            code=code,
            step=None if step == UNKNOWN else tally.names[step],
            message=group.message,
            count=group.count,
            items=tuple(group.items),
        )
        for (code, step), group in groups
    )


def _cut_short(tally: Tally, record: RunRecord, missing: int) -> Iterator[FailureGroup]:
    """The items that had no result when the run failed, and took its error."""
    left = record.failed - sum(group.count for group in tally.failures.values())
    if record.error is not None and left > 0 and not missing:
        yield FailureGroup(code=record.error.code, step=None, message=record.error.message, count=left, items=())


def _retries(standing: Standing) -> tuple[PendingRetry, ...]:
    pending = sorted(standing.retries.items(), key=lambda entry: (entry[1].due, entry[0]))[:SHOWN]
    return tuple(
        PendingRetry(
            item=item,
            step=step,
            attempt=retry.number,
            due=standing.known(retry.due),
            error=retry.error,
        )
        for (item, step), retry in pending
    )


def _items(tally: Tally) -> tuple[ItemHistory, ...] | None:
    """Every item that began, in that order; None: they were too many."""
    if tally.kept is None:
        return None
    return tuple(_unfinished(tally, item) if item.ok is None else item.history() for item in tally.kept)


def _unfinished(tally: Tally, item: ItemTally) -> ItemHistory:
    """An open item, with the attempts that are under way up to the newest event."""
    until = tally.standing.last_at
    open = [
        Span(step, attempt.number, attempt.at, max(until, attempt.at), "open", item.free.get(step, UNKNOWN))
        for (index, step), attempt in tally.standing.under_way.items()
        if index == item.index and attempt.at != UNKNOWN
    ]
    end = max((span.end for span in (*item.spans, *open)), default=item.start)
    return ItemHistory(index=item.index, start=item.start, end=end, ok=None, spans=(*item.spans, *open))


def _busy(tally: Tally) -> Busy:
    until = tally.standing.last_at
    under_way = [(step, attempt.at) for (_, step), attempt in tally.standing.under_way.items() if attempt.at != UNKNOWN]
    return tally.bins.summary(until, under_way)


def _counted(steps: Iterable[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for step in steps:
        counts[step] = counts.get(step, 0) + 1
    return counts


def _pauses(standing: Standing) -> tuple[Pause, ...]:
    """One that began among missing events is told of from the start of the run."""
    return tuple(Pause(standing.absolute(max(0, since)), standing.known(until)) for since, until in standing.pauses)


def _stints(standing: Standing) -> tuple[Stint, ...]:
    return tuple(
        Stint(
            owner=holder.owner,
            name=holder.name,
            since=standing.absolute(holder.since),
            until=standing.known(holder.until),
            fate=holder.fate,
        )
        for holder in standing.holders
    )
