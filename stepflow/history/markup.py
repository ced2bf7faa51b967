"""HTML from texts that users wrote: escaped, and shown even where HTML has no way to say a character."""

from collections.abc import Iterable, Sequence
from html import escape

import msgspec

LONGEST = 160
"""Characters of a text that are shown at once; the rest is folded away."""

FARTHEST = 4_000
"""Characters of a text that are kept at all."""


def shown(text: str) -> str:
    """Control characters, marks that turn the direction of text and lone surrogates are shown as a box."""
    kept = text if len(text) <= FARTHEST else f"{text[:FARTHEST]}…"
    return escape("".join(c if c in "\n\t" or c.isprintable() else "□" for c in kept))


def folded(text: str) -> str:
    """The beginning of a text; all of it when it is opened."""
    first = text.partition("\n")[0]
    if len(text) <= LONGEST and first == text:
        return shown(text)
    return f"<details><summary>{shown(first[:LONGEST])}…</summary><pre>{shown(text)}</pre></details>"


class Column(msgspec.Struct, frozen=True):
    name: str
    is_number: bool = False
    is_text: bool = False  # whatever users wrote, of any length
    is_name: bool = False  # the same, mostly short
    tip: str = ""


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML. A wide table scrolls by itself."""
    head = "".join(f"<th{_class(column)}{_tip(column)}>{shown(column.name)}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td{_class(column)}>{cell}</td>" for column, cell in zip(columns, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _class(column: Column) -> str:
    if column.is_number:
        return ' class="n"'
    if column.is_name:
        return ' class="name"'
    return ' class="text"' if column.is_text else ""


def _tip(column: Column) -> str:
    return f' title="{shown(column.tip)}"' if column.tip else ""


def section(title: str, body: str, note: str = "") -> str:
    """Nothing where there is no body. Title and note are HTML."""
    if not body:
        return ""
    said = f"<p>{note}</p>" if note else ""
    return f"<section><h2>{title}</h2>{said}{body}</section>"
