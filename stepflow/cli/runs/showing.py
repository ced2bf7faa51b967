"""`stepflow runs show`."""

from collections.abc import Sequence

import anyio
import click
import msgspec

from stepflow.cli.failure import say, tell
from stepflow.cli.options import examples
from stepflow.cli.place import Place, short_id
from stepflow.cli.runs.options import json_option, place_options, run_argument
from stepflow.cli.runs.place import asked_place, find_run, opened
from stepflow.cli.runs.rows import as_json, json_line, owner_of
from stepflow.cli.tables import tell_table
from stepflow.history.reading import read_history
from stepflow.history.records import History, StepHistory
from stepflow.history.table import ShownStep, ShownTable, show_table
from stepflow.records import EngineRecord, Json, RunRecord, RunStatus

_STEP_HEADS = (
    "STEP",
    "COMPONENT",
    "OK",
    "FAILED",
    "DEFAULTED",
    "RETRIED",
    "LOST",
    "P50",
    "P99",
    "QUEUED",
    "WAITING ON",
)
_FAILURE_HEADS = ("FAILURE", "STEP", "COUNT", "ITEMS", "MESSAGE")


@click.command("show", epilog=examples("stepflow runs show last --store runs.db"))
@run_argument
@json_option("one JSON object")
@place_options
def command(run: str, as_json: bool, store: str | None, config: str | None, url: str | None) -> None:
    """Show a run: by step what came of it, and its failures by code.

    RUN is an id, the beginning of one, or `last`.
    """
    anyio.run(_show, run, asked_place(store, config, url), as_json)


async def _show(text: str, place: Place, is_json: bool) -> None:
    async with opened(place) as backend:
        run_id = await find_run(backend, text, place)
        history = await read_history(backend, run_id)
        owner = await owner_of(backend, history.record)
        short = await short_id(backend, run_id)
    if is_json:
        tell(json_line(history_as_json(history, owner)))
        return
    tell_history(show_table(history))
    say(f"next: {place.line(next_command(history.record, short))}")


def next_command(record: RunRecord, short: str) -> str:
    """What is likely to be wanted of a run that was looked at."""
    if record.status is RunStatus.PAUSED:
        return f"stepflow runs resume {short}"
    if not record.status.is_terminal:
        return f"stepflow runs explain {short}"
    if record.succeeded < (record.total or 0):
        return f"stepflow runs retry {short}"
    return f"stepflow runs report {short} -o run.html"


def tell_history(table: ShownTable) -> None:
    width = max(len(name) for name, _ in table.facts)
    for name, value in table.facts:
        tell(f"{name:<{width}}  {' '.join(value.split())}")
    if table.steps:
        tell("")
        _tell_steps(table.steps)
    if table.failures:
        tell("")
        failures = [(each.code, each.step, f"{each.count:,}", each.items, each.message) for each in table.failures]
        tell_table(_FAILURE_HEADS, failures, numbers=("COUNT",), texts=("ITEMS", "MESSAGE"))
    for note in table.notes:
        say(f"note: {note}")


def _tell_steps(steps: Sequence[ShownStep]) -> None:
    was_queued = any(step.queued for step in steps)
    heads = tuple(head for head in _STEP_HEADS if was_queued or head != "QUEUED")
    rows = []
    for step in steps:
        counts = (step.ok, step.failed, step.defaulted, step.retried, step.lost)
        times = (step.p50, step.p99, step.queued) if was_queued else (step.p50, step.p99)
        rows.append((step.step, step.component, *(f"{count:,}" for count in counts), *times, step.waiting_on))
    tell_table(heads, rows, numbers=heads[2:-1], texts=heads[-1:])


def history_as_json(history: History, owner: EngineRecord | None) -> dict[str, Json]:
    """The keys are documented and stay."""
    return {
        "run": as_json(history.record, owner),
        "elapsed_ms": history.elapsed_ms,
        "admitted": history.admitted,
        "under_way": history.open,
        "steps": [_step_as_json(step) for step in history.steps],
        "failures": msgspec.to_builtins(history.failures),
        "engines": msgspec.to_builtins(history.stints),
        "pauses": msgspec.to_builtins(history.pauses),
        "sub_runs": {status.value: count for status, count in history.sub_runs.by_status.items()},
        "missing_events": history.missing,
    }


def _step_as_json(step: StepHistory) -> dict[str, Json]:
    return {
        "step": step.id,
        "component": step.component,
        "ok": step.ok,
        "failed": step.failed,
        "defaulted": step.defaulted,
        "retried": step.retried,
        "lost": step.lost,
        "under_way": step.under_way,
        "retrying": step.retrying,
        "running_ms": msgspec.to_builtins(step.running),
        "ready_ms": msgspec.to_builtins(step.ready),
        "queued_ms": msgspec.to_builtins(step.queued),
        "waits": [{"reason": wait.reason, "now": wait.now, "since": wait.since} for wait in step.waits],
    }
