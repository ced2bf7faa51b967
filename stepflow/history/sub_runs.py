"""The runs below a run: all are counted, a few are shown."""

from collections import Counter

from stepflow.history.records import SubRunHistory, SubRuns
from stepflow.protocols import PAGE, Runs
from stepflow.records import RunId, RunRecord, RunStatus

SHOWN_SUB_RUNS = 20
"""Of one parent."""

DEEPEST_SHOWN = 5
"""Levels below the run that are looked at."""


async def read_sub_runs(runs: Runs, parent_id: RunId, *, depth: int = DEEPEST_SHOWN) -> SubRuns:
    """Those that steps of this run started, and below those that are shown theirs."""
    counts: Counter[RunStatus] = Counter()
    best: list[RunRecord] = []
    before: RunId | None = None
    while page := await runs.list(parent_id=parent_id, limit=PAGE, before=before):
        before = page[-1].id
        counts.update(record.status for record in page)
        best = sorted([*best, *page], key=_interest)[:SHOWN_SUB_RUNS]
    shown = [
        SubRunHistory(
            record=record, children=await read_sub_runs(runs, record.id, depth=depth - 1) if depth > 1 else SubRuns()
        )
        for record in best
    ]
    return SubRuns(by_status=dict(counts), shown=tuple(shown))


def _interest(record: RunRecord) -> tuple[int, RunId]:
    """Unfinished ones first, then those that did not succeed, then the rest; older ones first."""
    if not record.status.is_terminal:
        return 0, record.id
    return 2 if record.status is RunStatus.COMPLETED else 1, record.id
