"""`stepflow runs report`."""

from pathlib import Path

import anyio
import click

from stepflow.cli.failure import CommandError, say
from stepflow.cli.options import examples
from stepflow.cli.place import Place
from stepflow.cli.runs.options import place_options, run_argument
from stepflow.cli.runs.place import asked_place, find_run, opened
from stepflow.history.reading import read_history
from stepflow.history.report import report_html


@click.command("report", epilog=examples("stepflow runs report last -o run.html --store runs.db"))
@run_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="run.html",
    show_default=True,
    metavar="FILE",
    help="The page.",
)
@place_options
def command(run: str, output: Path, store: str | None, config: str | None, url: str | None) -> None:
    """Write a run as one HTML page that needs no network: its flow, its time line, its failures.

    RUN is an id, the beginning of one, or `last`.
    """
    page = anyio.run(_page, run, asked_place(store, config, url))
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"the report cannot be written to {output}: {error.strerror or error}") from None
    say(f"report: {output}")


async def _page(text: str, place: Place) -> str:
    async with opened(place) as backend:
        return report_html(await read_history(backend, await find_run(backend, text, place)))
