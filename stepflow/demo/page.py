"""The report as one HTML file that fetches nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import msgspec

from stepflow.demo.audit import Audit
from stepflow.demo.closing import cut_line
from stepflow.demo.components import Copy, Package, RankedFunction
from stepflow.demo.figures import amount
from stepflow.demo.watch import Span, step_notes
from stepflow.drawing import draw_svg
from stepflow.flow.model import Flow

COLORS = ("#3b82f6", "#f59e0b", "#22a155", "#db4a94", "#8b5cf6", "#0f9f90", "#ea580c", "#7c8a2e", "#0891c7")
OTHERS = ("other packages", "#94a3b8")
STEP_COLORS = ("#3b82f6", "#22a155", "#2dd4bf", "#f59e0b", "#8b5cf6")
SHOWN = 12
SHOWN_FAILURES = 200


class _Page(Template):
    delimiter = "@@"


def audit_page(audit: Audit) -> str:
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    ranking, copies = audit.report.ranking, audit.report.copies
    each_file = [span for _, span in audit.work]
    return _Page(template).substitute(
        title=escape(audit.subject),
        pace=escape(audit.pace),
        cards=_cards(audit),
        longest=_table(("function", "lines", ""), _longest_rows(ranking.longest[:SHOWN])),
        copies=_table(("function", "lines"), map(_copy_row, copies.longest[:SHOWN])),
        copy_count=f"{copies.count:,} in all.",
        package_table=_table(
            ("package", "files", "lines", "functions", "documented", "needs 3.8+"),
            map(_package_row, audit.report.packages),
        ),
        flows=_drawn(audit.flows[0], each_file)
        + _drawn(audit.flows[1], audit.spans.get(audit.flows[1].name or "", ())),
        slowest=_table(("file", "ms"), _slowest_rows(audit)),
        failures=_table(("file", "why"), _failure_rows(audit)),
        failure_note=f"{audit.tolerated:,} tolerated: a default stood in. {audit.failed:,} files failed.",
        cut=escape(cut_line(audit.cut)),
        footer="Written by <code>stepflow demo</code>. One file; nothing is fetched.",
        data=_data(audit),
    )


def _cards(audit: Audit) -> str:
    ranking = audit.report.ranking
    cards = {
        "files": f"{len(audit.results):,}",
        "lines": amount(ranking.lines),
        "functions": amount(ranking.functions),
        "need Python 3.8 or newer": f"{ranking.newer:,}",
        "tolerated failures": f"{audit.tolerated:,}",
        "failed": f"{audit.failed:,}",
    }
    return "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{name}</span></div>' for name, value in cards.items()
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML; the first column is text, the others numbers unless they are bars or reasons."""
    numeric = {head for head in heads[1:] if head not in ("", "why")}
    head = "".join(f"<th{_numeric(name in numeric)}>{name}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(_cell(name, cell, name in numeric) for name, cell in zip(heads, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if body else "<p>None.</p>"


def _numeric(is_number: bool) -> str:
    return ' class="n"' if is_number else ""


def _cell(head: str, cell: str, is_number: bool) -> str:
    return f'<td class="bar">{cell}</td>' if head == "" else f"<td{_numeric(is_number)}>{cell}</td>"


def _longest_rows(longest: Sequence[RankedFunction]) -> Iterable[Sequence[str]]:
    most = max((function.lines for function in longest), default=1)
    for function in longest:
        bar = f'<i style="width:{100 * function.lines / most:.0f}%"></i>'
        yield _named(function.name, function.file), f"{function.lines:,}", bar


def _named(name: str, file: str) -> str:
    return f"{escape(name)} <small>{escape(file)}</small>"


def _copy_row(copy: Copy) -> Sequence[str]:
    places = [place.rpartition(" ") for place in copy.places]
    more = f" <small>and {len(places) - 3:,} more</small>" if len(places) > 3 else ""
    return "<br>".join(_named(name, file) for file, _, name in places[:3]) + more, f"{copy.lines:,}"


def _package_row(package: Package) -> Sequence[str]:
    share = package.documented
    numbers = [f"{number:,}" for number in (package.files, package.lines, package.functions)]
    return escape(package.package), *numbers, "–" if share is None else f"{share:.0%}", f"{package.newer:,}"


def _drawn(flow: Flow, spans: Iterable[Span]) -> str:
    notes = step_notes(spans, [step.id for step in flow.steps])
    drawing = draw_svg(flow, notes=notes)
    return drawing.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)  # not needed inside HTML


def _slowest_rows(audit: Audit) -> Iterable[Sequence[str]]:
    """Without the first call of each process, which waited for the process to start."""
    begun: dict[str, int] = {}
    spent: Counter[int] = Counter()
    for place, span in audit.work:
        if begun.setdefault(place, span.item) != span.item:
            spent[span.item] += span.end - span.start
    return [(escape(audit.files[item]), f"{spent_ms:,}") for item, spent_ms in spent.most_common(SHOWN)]


def _failure_rows(audit: Audit) -> Iterable[Sequence[str]]:
    """Files that failed first, then failures for which a default stood in."""
    steps = audit.flows[0].steps
    lost = [(result.index, "the file failed", result.error.message) for result in audit.results if result.error]
    tolerated = sorted((span.item, steps[span.step].id, span.failure.message) for _, span in audit.work if span.failure)
    for item, step, message in [*lost, *tolerated][:SHOWN_FAILURES]:
        yield escape(audit.files[item]), f"{escape(message)} <small>{escape(step)}</small>"


def _data(audit: Audit) -> str:
    """What the page's script draws, as JSON in which no character can end the script element."""
    largest = [package.package for package in audit.report.packages[: len(COLORS)]]
    rows = {place: row for row, place in enumerate(sorted({place for place, _ in audit.work}))}
    values = {
        "rows": list(rows),
        "groups": [*zip(largest, COLORS, strict=False), OTHERS],
        "points": list(_points(audit, {name: group for group, name in enumerate(largest)})),
        "steps": [(step.id, color) for step, color in zip(audit.flows[0].steps, STEP_COLORS, strict=False)],
        "spans": [
            (rows[place], span.step, span.start, span.end - span.start, span.item, int(span.failure is not None))
            for place, span in audit.work
        ],
        "items": audit.files,
    }
    return msgspec.json.encode(values).decode().replace("<", "\\u003c")


def _points(audit: Audit, groups: Mapping[str, int]) -> Iterable[Sequence[object]]:
    for facts in audit.facts:
        measures, group = facts.measures, groups.get(facts.package, len(groups))
        if measures.documented is not None:
            where = (facts.lines, measures.documented, group, facts.file, facts.package)
            yield *where, measures.functions, measures.complexity
