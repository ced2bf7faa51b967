"""`stepflow visualize FLOW`: a picture of what a flow does."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import click

from stepflow.cli.failure import CommandError, os_error_text, problem_lines, say
from stepflow.cli.options import chosen_flow, examples, flow_options
from stepflow.drawing.dot import dot_text
from stepflow.drawing.mermaid import mermaid_text
from stepflow.drawing.png import draw_png
from stepflow.drawing.svg import draw_svg
from stepflow.flow.model import Flow
from stepflow.flow.read import read_flow

_FORMATS: Mapping[str, str] = MappingProxyType(
    {".svg": "svg", ".png": "png", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".mermaid": "mermaid"}
)
_PICTURES = ("svg", "png")
STDOUT = "-"


@click.command("visualize", epilog=examples("stepflow visualize flow.yaml -o flow.svg"))
@flow_options
@click.option(
    "-o",
    "--output",
    type=click.Path(allow_dash=True),
    metavar="FILE|-",
    help="Where to draw. Not given: beside the flow; text goes to stdout.",
)
@click.option(
    "--format",
    type=click.Choice(("svg", "png", "dot", "mermaid"), case_sensitive=False),
    help="Not given: as the output's extension says, else svg.",
)
@click.option("--no-servers", is_flag=True, help="Only the steps' names, without components and their colours.")
@click.option("--no-details", is_flag=True, help="Nothing more under the pointer.")
@click.option("--config", metavar="FILE", help="Accepted and not needed.", hidden=True)
def command(
    flow: str | None,
    flow_option: str | None,
    output: str | None,
    format: str | None,
    no_servers: bool,
    no_details: bool,
    config: str | None,
) -> None:
    """Draw a flow as SVG, PNG, DOT or Mermaid."""
    path = chosen_flow(flow, flow_option)
    chosen = format or _format_of(output)
    target = _target(path, output, chosen)
    read = read_flow(path)
    for line in problem_lines(read.warnings):
        say(line)
    content = _drawn(read, chosen, servers=not no_servers, details=not no_details)
    if target is None:
        sys.stdout.buffer.write(content)
        return
    try:
        target.write_bytes(content)
    except OSError as error:
        raise CommandError(f"the picture cannot be written to {os_error_text(error)}") from None
    say(f"drawn: {target}")


def _format_of(output: str | None) -> str:
    extension = Path(output).suffix.lower() if output not in (None, STDOUT) else ".svg"
    if extension not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise click.UsageError(f"{output}: the extension says how to draw ({known}), or say --format", _context())
    return _FORMATS[extension]


def _target(flow: str, output: str | None, format: str) -> Path | None:
    """Where to write; None is stdout. A picture that nobody named is never written over another file."""
    if output == STDOUT or (output is None and format not in _PICTURES):
        return None
    if output is not None:
        return Path(output)
    target = Path(flow).with_suffix(f".{format}")
    if target.exists():
        raise CommandError(f"{target} exists; name it to overwrite it: --output {target}")
    return target


def _drawn(flow: Flow, format: str, *, servers: bool, details: bool) -> bytes:
    if format == "png":
        try:
            return draw_png(flow, servers=servers, details=details)
        except ModuleNotFoundError as error:
            remedy = "add it with: pip install 'stepflow-engine[visualize]', or draw an SVG"
            raise CommandError(f"PNG needs Pillow, which is not installed; {remedy}") from error
    if format == "mermaid":
        return mermaid_text(flow, servers=servers).encode()
    draw: Callable[..., str] = draw_svg if format == "svg" else dot_text
    return draw(flow, servers=servers, details=details).encode()


def _context() -> click.Context:
    return click.get_current_context()
