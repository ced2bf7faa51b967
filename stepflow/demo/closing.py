"""The table that the demo ends with."""

from collections.abc import Sequence

from stepflow.demo.audit import Audit, Cut
from stepflow.demo.figures import amount, plural


def closing_lines(audit: Audit) -> Sequence[str]:
    """What the report says in four lines, and what the kill came to."""
    ranking, copies = audit.report.ranking, audit.report.copies
    title = f"{audit.subject}: {plural(len(audit.results), 'file')}, {amount(ranking.lines)} lines"
    newer, unreadable = ranking.newer, ranking.unreadable
    counts = f"need Python 3.8 or newer {newer:,}   tolerated failures {audit.tolerated:,}   failed {audit.failed:,}"
    longest = [f"{function.lines} {function.file} {function.name}" for function in ranking.longest[:3]]
    copied = [f"{' = '.join(copy.places[:2])} ({copy.lines} lines)" for copy in copies.longest[:1]]
    return (
        f"{title:<72} {audit.pace}",
        f"  {counts}" + (f"   not Python here {unreadable:,}" if unreadable else ""),
        f"  longest functions     {' · '.join(longest) or 'none'}",
        f"  copied between files {copies.count:>4,}" + "".join(f": {copy} · …" for copy in copied),
        f"  {cut_line(audit.cut)}",
    )


def cut_line(cut: Cut | None) -> str:
    if cut is None:
        return "not killed: all files were done before the kill could come"
    which = "an uncut run" if cut.compared == cut.total else f"an uncut run of {cut.compared:,}"
    return " · ".join(
        (
            f"killed at {cut.at:,} of {cut.total:,} → resumed in {cut.resumed_s:.1f} s",
            f"lost {cut.lost:,}",
            f"steps repeated {cut.repeated:,} (in flight at the kill)",
            f"identical to {which}: {'yes' if cut.is_as_uncut else 'no'}",
        )
    )
