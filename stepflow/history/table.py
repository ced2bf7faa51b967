"""A run's history as plain rows, for whoever prints it."""

import msgspec

from stepflow.history.records import FailureGroup, History, StepHistory
from stepflow.history.words import clock_time, duration_ms, listed


class ShownStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step, ready to print. Numbers are numbers; `p50`, `p99` and `queued` are texts such as `4.2 s`, or empty."""

    step: str
    component: str
    ok: int
    failed: int
    skipped: int
    defaulted: int
    retried: int
    lost: int
    p50: str
    p99: str
    queued: str  # the median time in a named queue
    waiting_on: str


class ShownFailure(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    step: str
    count: int
    items: str  # `3, 17, 20 and 4,012 more`
    message: str  # of the first


class ShownTable(msgspec.Struct, frozen=True, kw_only=True):
    """What `stepflow runs show` prints: facts of the run, a row a step, a row a failure."""

    facts: tuple[tuple[str, str], ...]  # name, value
    steps: tuple[ShownStep, ...]
    failures: tuple[ShownFailure, ...]
    notes: tuple[str, ...]  # what the figures leave out


def show_table(history: History) -> ShownTable:
    return ShownTable(
        facts=_facts(history),
        steps=tuple(_step(step) for step in history.steps),
        failures=tuple(_failure(group) for group in history.failures),
        notes=_notes(history),
    )


def waiting_on(step: StepHistory) -> str:
    """What keeps a step's attempts from going on: reasons, retries, those that are simply under way."""
    waiting = sum(wait.now for wait in step.waits)
    parts = [f"{wait.reason} ({wait.now:,} since {clock_time(wait.since)})" for wait in step.waits]
    if step.retrying:
        parts.append(f"{step.retrying:,} between retries")
    if step.under_way > waiting:
        parts.append(f"{step.under_way - waiting:,} under way")
    return ", ".join(parts)


def _step(step: StepHistory) -> ShownStep:
    durations = step.running
    return ShownStep(
        step=step.id,
        component=step.component,
        ok=step.ok,
        failed=step.failed,
        skipped=step.skipped,
        defaulted=step.defaulted,
        retried=step.retried,
        lost=step.lost,
        p50=duration_ms(durations.p50_ms) if durations.count else "",
        p99=duration_ms(durations.p99_ms) if durations.count else "",
        queued=duration_ms(step.queued.p50_ms) if step.queued.count else "",
        waiting_on=waiting_on(step),
    )


def _failure(group: FailureGroup) -> ShownFailure:
    return ShownFailure(
        code=group.code.value,
        step=group.step or "",
        count=group.count,
        items=listed(group.items, group.count),
        message=group.message,
    )


def _facts(history: History) -> tuple[tuple[str, str], ...]:
    record = history.record
    facts = [
        ("run", record.id),
        ("flow", record.flow_name or record.flow_id),
        ("status", record.status.value),
        ("items", progress(history)),
        ("time", duration_ms(history.elapsed_ms) + ("" if record.ended_at is not None else " up to its newest event")),
        ("engines", _engines(history)),
    ]
    if history.pauses:
        facts.append(("pauses", str(len(history.pauses))))
    if history.sub_runs.count:
        counted = ", ".join(f"{count:,} {status.value}" for status, count in history.sub_runs.by_status.items())
        facts.append(("sub-runs", counted))
    if history.retry_of is not None:
        facts.append(("retry of", history.retry_of))
    if record.error is not None:
        facts.append(("error", f"{record.error.code.value}: {record.error.message}"))
    return tuple(facts)


def progress(history: History) -> str:
    """`412 of 1,000: 400 ok, 12 failed, 4 under way`; the record counts the items, whatever events are left."""
    record = history.record
    total = f"{record.total:,}" if record.total is not None else f"{history.admitted:,} so far"
    parts = [f"{record.succeeded:,} ok"]
    parts += [f"{count:,} {what}" for count, what in _rest(history) if count]
    return f"{record.succeeded + record.failed:,} of {total}: {', '.join(parts)}"


def _rest(history: History) -> list[tuple[int, str]]:
    record = history.record
    return [(record.failed, "failed"), (record.cancelled, "cancelled"), (history.open, "under way")]


def _engines(history: History) -> str:
    lost = sum(stint.fate == "lost" for stint in history.stints)
    return f"{len(history.stints)}" + (f", {lost} of them lost" if lost else "")


def _notes(history: History) -> tuple[str, ...]:
    notes = []
    if history.held is not None:
        notes.append(f"none of its steps can begin: {history.held}")
    if not history.is_complete:
        notes.append(
            f"{history.missing:,} earlier events are not kept by this store: "
            "the figures by step and the failures speak of the rest"
        )
    if history.flow is None:
        notes.append("the flow is not stored any more: steps are named by their place")
    return tuple(notes)
