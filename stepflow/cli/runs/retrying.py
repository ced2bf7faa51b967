"""`stepflow runs retry`."""

from contextlib import ExitStack
from functools import partial
from uuid import uuid4

import anyio
import click

from stepflow.cli.execution import Execution
from stepflow.cli.failure import CommandError, say
from stepflow.cli.job import Submitted
from stepflow.cli.opening import storing_engine
from stepflow.cli.options import examples, stored_engine_options
from stepflow.cli.place import Place, short_id
from stepflow.cli.progress import Tally, is_wanted
from stepflow.cli.results import open_results
from stepflow.cli.runs.options import run_argument, store_option, url_option
from stepflow.cli.runs.place import asked_place, find_run, named_place, opened, refuse_missing
from stepflow.cli.runs.server import desk_at
from stepflow.engine import Engine
from stepflow.errors import RunNotFoundError
from stepflow.history.kept import read_flow_blob
from stepflow.protocols import Backend
from stepflow.records import RunId, RunRecord


@click.command("retry", epilog=examples("stepflow runs retry last --app components:app -o out.jsonl --store runs.db"))
@run_argument
@stored_engine_options
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write results here, as JSON Lines.")
@url_option
@store_option
@click.pass_context
def command(
    ctx: click.Context,
    run: str,
    apps: tuple[str, ...],
    config: str | None,
    output: str | None,
    store: str | None,
    url: str | None,
) -> None:
    """Run the items of a run that failed, or that it was cancelled before, again: as a new run.

    RUN is an id, the beginning of one, or `last`. What had succeeded is taken as it is, also the first steps of an item
    that failed later. The results are those of all items, in their order. With --url the server runs them.
    """
    place = named_place(store, config) if apps and url is None else asked_place(store, config, url)
    if place.is_server:
        if apps:
            raise click.UsageError("--url and --app exclude each other: the server has components of its own", ctx)
        ctx.exit(_at_server(run, place, output))
    refuse_missing(place)
    tally = Tally(on_start=lambda run_id: say(f"run_id: {run_id}"))
    engine, _ = storing_engine(config, None, apps, place.location, observers=[tally], group=f"run:{uuid4()}")
    with ExitStack() as held:
        results = held.enter_context(open_results(output, batch=True))
        execution = Execution(
            partial(_begin, text=run, place=place),
            engine,
            tally,
            results,
            place=place,
            shows_progress=is_wanted(results_on_stdout=output is None),
        )
        code = anyio.run(execution.run)
    say(execution.last_line())
    ctx.exit(code)


def _at_server(text: str, place: Place, output: str | None) -> int:
    async def find() -> RunId:
        async with opened(place) as backend:
            return (await _failed(backend, await find_run(backend, text, place), place)).id

    return desk_at(place.location).retry(anyio.run(find), output, place=place.line(""))


async def _begin(engine: Engine, tally: Tally, was_cut: bool, *, text: str, place: Place) -> Submitted:
    backend = engine.backend
    record = await _failed(backend, await find_run(backend, text, place), place)
    run = await engine.retry(record.id)
    tally.follow(run.id)
    flow = await read_flow_blob(backend.blobs, record.flow_id)
    tally.total = record.total
    tally.before = record.succeeded
    taken = f"{record.succeeded:,} of {record.total or 0:,} are taken as they are"
    say(f"retrying {await short_id(backend, record.id)}: {taken}")
    return Submitted(
        run=run,
        steps=[] if flow is None else [step.id for step in flow.steps],
        again=place.line(f"stepflow recover {await short_id(backend, run.id)}"),
        before=record.succeeded,
    )


async def _failed(backend: Backend, run_id: RunId, place: Place) -> RunRecord:
    """Raises: CommandError, where there is nothing to try again."""
    record = await backend.runs.get(run_id)
    if record is None:
        raise RunNotFoundError(run_id)
    short = await short_id(backend, run_id)
    if not record.status.is_terminal:
        how = "stepflow runs explain" if place.is_server else "stepflow recover"
        asks = "what it does" if place.is_server else "to go on with it"
        line = place.line(f"{how} {short}")
        raise CommandError(f"run {short} has not ended ({record.status.value}); {asks}: {line}")
    if record.total is not None and record.succeeded == record.total:
        raise CommandError(f"run {short} has no failed item: all {record.total:,} succeeded")
    return record
