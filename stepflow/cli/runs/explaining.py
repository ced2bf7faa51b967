"""`stepflow runs explain`."""

import anyio
import click
import msgspec

from stepflow.cli.failure import say, tell
from stepflow.cli.options import examples
from stepflow.cli.place import Place, short_id
from stepflow.cli.runs.options import json_option, place_options, run_argument
from stepflow.cli.runs.place import asked_place, find_run, opened
from stepflow.cli.runs.rows import json_line, now_s
from stepflow.engine import AUTO_CONCURRENCY
from stepflow.history.explaining import explain


@click.command("explain", epilog=examples("stepflow runs explain last --store runs.db"))
@run_argument
@json_option("one JSON object")
@place_options
def command(run: str, as_json: bool, store: str | None, config: str | None, url: str | None) -> None:
    """Say what keeps a run from going on, and what would change that.

    RUN is an id, the beginning of one, or `last`.
    """
    anyio.run(_explain, run, asked_place(store, config, url), as_json)


async def _explain(text: str, place: Place, is_json: bool) -> None:
    async with opened(place) as backend:
        run_id = await find_run(backend, text, place)
        server = place.location if place.is_server else None
        found = await explain(
            backend, run_id, now=now_s(), default_concurrency=AUTO_CONCURRENCY, server=server, typed=place.line
        )
        short = await short_id(backend, run_id)
    if is_json:
        tell(json_line(msgspec.to_builtins(found)))
        return
    tell(str(found))
    say(f"next: {place.line(f'stepflow runs show {short}')}")
