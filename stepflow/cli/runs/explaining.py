"""`stepflow runs explain`."""

from contextlib import suppress

import anyio
import click
import msgspec

from stepflow.cli.failure import CommandError, say, tell
from stepflow.cli.options import examples
from stepflow.cli.place import Place, short_id
from stepflow.cli.runs.options import json_option, place_options, run_argument
from stepflow.cli.runs.place import asked_place, find_run, opened
from stepflow.cli.runs.rows import json_line, now_s
from stepflow.cli.runs.server import desk_at
from stepflow.clock import SystemClock
from stepflow.engine import AUTO_CONCURRENCY
from stepflow.errors import StepflowError
from stepflow.history.explaining import explain
from stepflow.history.explanation import BlockerKind, Explanation
from stepflow.protocols import Backend
from stepflow.records import Ownership, RunId

NEWS_S = 2.0
"""A run with a newer event than that is recorded."""

ANSWERED_WITHIN_S = 2.0
"""How long the engine of a run is waited for, where it can be reached."""

_SEEN_IN_STORE = (BlockerKind.SLOTS, BlockerKind.RUNNING, BlockerKind.QUIET)


@click.command("explain", epilog=examples("stepflow runs explain last --store runs.db"))
@run_argument
@json_option("one JSON object")
@place_options
def command(run: str, as_json: bool, store: str | None, config: str | None, url: str | None) -> None:
    """Say what keeps a run from going on, and what would change that.

    RUN is an id, the beginning of one, or `last`.
    """
    anyio.run(_explain, run, asked_place(store, config, url), as_json)


async def _explained(backend: Backend, run_id: RunId, place: Place, told: Ownership | None = None) -> Explanation:
    async def ownership(run_id: RunId) -> Ownership | None:
        return told or await backend.owners.ownership(run_id)

    return await explain(
        backend,
        run_id,
        now=now_s(),
        default_concurrency=AUTO_CONCURRENCY,
        server=place.location if place.is_server else None,
        ownership=ownership,
        typed=place.line,
    )


def _is_in_doubt(found: Explanation) -> bool:
    """Whether it may only look so in the store, because the store takes nothing."""
    if found.status.is_terminal or (found.last_at is not None and found.now - found.last_at <= NEWS_S):
        return False
    return not found.blockers or any(blocker.kind in _SEEN_IN_STORE for blocker in found.blockers)


async def _told_by_engine(backend: Backend, run_id: RunId) -> Ownership | None:
    """Who has the run, as its engine says, which alone knows whether the store answers it; None: it says nothing."""
    known = await backend.owners.ownership(run_id)
    if known is None or known.engine is None or known.engine.url is None:
        return None
    told = None
    with suppress(StepflowError, CommandError, click.ClickException), SystemClock().timeout(ANSWERED_WITHIN_S):
        async with desk_at(known.engine.url).reader() as there:
            told = await there.owners.ownership(run_id)
    return told


async def _explain(text: str, place: Place, is_json: bool) -> None:
    async with opened(place) as backend:
        run_id = await find_run(backend, text, place)
        found = await _explained(backend, run_id, place)
        if _is_in_doubt(found) and (told := await _told_by_engine(backend, run_id)) is not None:
            found = await _explained(backend, run_id, place, told)
        short = await short_id(backend, run_id)
    if is_json:
        tell(json_line(msgspec.to_builtins(found)))
        return
    tell(str(found))
    say(f"next: {place.line(f'stepflow runs show {short}')}")
