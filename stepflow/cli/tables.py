"""Tables: aligned and coloured on a terminal, plain where they are piped."""

import io
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stepflow.cli.failure import tell

_UNBOUNDED = 100_000  # columns: nothing is cut where no terminal sets a width

STYLES = {
    "completed": "green",
    "running": "cyan",
    "paused": "yellow",
    "failed": "red",
    "cancelled": "magenta",
    "recoveryFailed": "red",
}
"""Colours of the states of runs."""


def tell_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[str] = (), texts: Iterable[str] = ()
) -> None:
    """Rows of texts below their heads, on stdout.

    Args:
        numbers: the heads of columns whose cells end below each other.
        texts: of those that go on in the next line where the terminal is narrow; others are cut.
    """
    right, long = set(numbers), set(texts)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left", no_wrap=head not in long)
    for row in rows:
        table.add_row(*(Text(_printable(cell), style=STYLES.get(cell, "")) for cell in row))
    is_terminal = sys.stdout.isatty()
    written = io.StringIO()
    width = None if is_terminal else _UNBOUNDED
    console = Console(file=written, width=width, force_terminal=is_terminal, highlight=False)
    console.print(table)
    tell("\n".join(line.rstrip() for line in written.getvalue().splitlines()))


def _printable(text: str) -> str:
    """Without what moves the cursor of a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
