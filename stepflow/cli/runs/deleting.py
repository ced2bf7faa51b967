"""`stepflow runs delete`."""

import sys
from collections.abc import Sequence

import anyio
import click

from stepflow.cli.failure import COULD_NOT_RUN, CommandError, say
from stepflow.cli.options import duration, examples
from stepflow.cli.place import Place, short_id
from stepflow.cli.runs.options import place_options
from stepflow.cli.runs.place import asked_place, find_run, opened
from stepflow.cli.runs.rows import now_s
from stepflow.errors import RunNotFoundError
from stepflow.history.words import plural
from stepflow.protocols import Backend
from stepflow.records import RunId

_PAGE = 1_000


@click.command(
    "delete",
    epilog=examples(
        "stepflow runs delete 01933f2c --store runs.db", "stepflow runs delete --older-than 30d --store runs.db"
    ),
)
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--older-than", callback=duration, metavar="TIME", help="All that ended so long ago: 30d, 12h.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="All that ended, but for the newest N.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@place_options
@click.pass_context
def command(
    ctx: click.Context,
    runs: tuple[str, ...],
    older_than: float | None,
    keep: int | None,
    yes: bool,
    store: str | None,
    config: str | None,
    url: str | None,
) -> None:
    """Delete runs that have ended, with their sub-runs, events and results.

    RUN is an id, the beginning of one, or `last`; or --older-than and --keep say which, and with both those that either
    names. More than one is asked for first. A run that goes on is refused.
    """
    is_rule = older_than is not None or keep is not None
    if is_rule == bool(runs):
        raise click.UsageError("name runs, or say which with --older-than or --keep", ctx)
    place = asked_place(store, config, url)
    if runs:
        ctx.exit(anyio.run(_delete, runs, place, yes))
    ctx.exit(anyio.run(_prune, None if older_than is None else now_s() - older_than, keep, place, yes))


async def _delete(texts: Sequence[str], place: Place, is_sure: bool) -> int:
    async with opened(place) as backend:
        run_ids = list(dict.fromkeys([await find_run(backend, text, place) for text in texts]))
        if len(run_ids) > 1:
            ask(f"delete {plural(len(run_ids), 'run')} {place.where}?", is_sure=is_sure)
        codes = [await _delete_one(backend, run_id, place) for run_id in run_ids]
    say(f"next: {place.line('stepflow runs list')}")
    return max(codes)


async def _delete_one(backend: Backend, run_id: RunId, place: Place) -> int:
    short = await short_id(backend, run_id)
    record = await backend.runs.get(run_id)
    if record is None:
        raise RunNotFoundError(run_id)
    if record.parent is not None:
        say(f"error: run {run_id} is part of run {record.root_id} and goes with it")
    elif await backend.retention.delete(run_id):
        say(f"deleted {short}")
        return 0
    else:
        how = place.line(f"stepflow runs cancel {short}")
        say(f"error: run {short} goes on ({record.status.value}); end it first: {how}")
    return COULD_NOT_RUN


async def _prune(ended_before: float | None, keep: int | None, place: Place, is_sure: bool) -> int:
    async with opened(place) as backend:
        count = await _count(backend, ended_before, keep)
        if count > 1:
            ask(f"delete {plural(count, 'run')} {place.where}?", is_sure=is_sure)
        deleted = 0
        while found := await backend.retention.prune(ended_before=ended_before, keep=keep):
            deleted += found
    say(f"deleted {plural(deleted, 'run')}")
    say(f"next: {place.line('stepflow runs list')}")
    return 0


async def _count(backend: Backend, ended_before: float | None, keep: int | None) -> int:
    """How many root runs the rule means now."""
    ends: list[float] = []
    before: RunId | None = None
    while page := await backend.runs.list(roots_only=True, limit=_PAGE, before=before):
        ends += [record.ended_at for record in page if record.ended_at is not None]
        before = page[-1].id
    old = sum(end < ended_before for end in ends) if ended_before is not None else 0
    beyond = max(0, len(ends) - keep) if keep is not None else 0
    return max(old, beyond)


def ask(question: str, *, is_sure: bool) -> None:
    """Go on where that is wanted.

    Raises:
        CommandError: nobody can be asked.
        click.Abort: it is not wanted.
    """
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Nobody can be asked here: say --yes")
    click.confirm(question, abort=True, err=True)
