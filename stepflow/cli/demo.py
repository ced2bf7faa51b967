"""`stepflow demo`: the tour."""

from pathlib import Path

import click
from rich.console import Console

from stepflow.cli.failure import say
from stepflow.cli.options import examples
from stepflow.demo.main import run_demo
from stepflow.demo.project import copy_demo


@click.command("demo", epilog=examples("stepflow demo --quick"))
@click.option("--quick", is_flag=True, help="Only a few hundred files.")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write each file's result here, as JSON Lines."
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    default="audit.html",
    show_default=True,
    help="The report: one page that needs no network.",
)
@click.option(
    "--copy",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Only write the demo's flows and components there, to change them.",
)
@click.pass_context
def command(ctx: click.Context, quick: bool, output: Path | None, html: Path, copy: Path | None) -> None:
    """Audit all Python source on this machine, as a tour."""
    if copy is not None:
        names = ", ".join(copy_demo(copy))
        say(f"written to {copy}: {names}")
        say(f"next: cd {copy}, and read README.md")
        return
    ctx.exit(run_demo(quick=quick, output=output, html=html, console=Console()))
