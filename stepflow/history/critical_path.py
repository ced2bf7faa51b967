"""What an item's end waited for: the chain of attempts and gaps that leads to it, backwards from the last. Pure."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from stepflow.history.records import History, ItemHistory, Span

SegmentKind = Literal["before", "ready", "retry", "down", "running", "after"]


class Segment(msgspec.Struct, frozen=True):
    """A stretch of the path, in milliseconds since the run started.

    before: the item had not begun. ready: it could go on, and waited for a slot. retry: between two attempts. down:
    from an attempt that was lost with its engine to the next. after: from the last attempt to the end.
    """

    kind: SegmentKind
    start: int
    end: int
    step: int | None = None
    attempt: int = 0
    verdict: str = ""

    @property
    def length(self) -> int:
        return self.end - self.start


def item_path(item: ItemHistory, needs: Sequence[Sequence[int]]) -> tuple[Segment, ...]:
    """From an item's first step to its end.

    Args:
        needs: by step, the steps whose values it uses. Where a step has no place in it, any may be what it waited for.
    """
    if not item.spans:
        return ()
    span: Span | None = max(item.spans, key=lambda span: (span.end, span.start))
    assert span is not None
    path = [Segment("after", span.end, item.end)]
    while span is not None:
        path.append(Segment("running", span.start, span.end, span.step, span.attempt, span.verdict))
        before = _before(span, item.spans, needs)
        since = item.start if before is None else before.end
        path.append(Segment(_gap(span, before), since, span.start, span.step, span.attempt))
        span = before
    return tuple(segment for segment in reversed(path) if segment.length > 0 or segment.kind == "running")


def run_path(history: History, needs: Sequence[Sequence[int]]) -> tuple[Segment, ...]:
    """The path of the item that ended last, with the time before it began and, once the run has ended, after it."""
    if history.last is None:
        return ()
    item = history.last
    before = Segment("before", 0, item.start)
    end = item.end if history.record.ended_at is None else max(item.end, history.elapsed_ms)
    after = Segment("after", item.end, end)
    path = (before, *item_path(item, needs), after)
    return tuple(segment for segment in path if segment.length > 0 or segment.kind == "running")


def _before(span: Span, spans: Sequence[Span], needs: Sequence[Sequence[int]]) -> Span | None:
    """What this attempt had to wait for: the last attempt that had ended before, of those that it needs."""
    needed = set(needs[span.step]) if span.step < len(needs) else None
    ended = [
        other
        for other in spans
        if other is not span
        and other.end <= span.start
        and (other.start, other.end) < (span.start, span.end)
        and (needed is None or other.step == span.step or other.step in needed)
    ]
    return max(ended, key=lambda other: (other.end, other.start), default=None)


def _gap(span: Span, before: Span | None) -> SegmentKind:
    if before is None or before.step != span.step:
        return "ready"
    return "down" if before.verdict in ("lost", "released") else "retry"
