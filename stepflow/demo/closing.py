"""The table that the demo ends with."""

from collections.abc import Sequence

from stepflow.demo.audit import Audit
from stepflow.demo.figures import amount, plural


def closing_lines(audit: Audit) -> Sequence[str]:
    """What the report says in four lines."""
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
    )
