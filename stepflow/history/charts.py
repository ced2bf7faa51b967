"""What happened when, drawn: shapes stretch with the page, texts stand beside them and keep their size."""

from collections.abc import Callable, Iterator, Sequence

from stepflow.history.critical_path import Segment
from stepflow.history.markup import shown
from stepflow.history.records import History, ItemHistory, Span
from stepflow.history.words import date_time, duration_ms, plural

COLORS = (
    *("#3b82f6", "#22a155", "#f59e0b", "#db4a94", "#8b5cf6", "#0f9f90", "#ea580c", "#7c8a2e", "#0891c7"),
    *("#8db8f9", "#82cf9f", "#f9cb76", "#ec9cc4", "#bda3fa", "#7accc3", "#f5a173", "#b5bf78", "#70c1e0"),
)
REST = "#94a3b8"
"""Of the steps that are left when the colours are used up."""

HEIGHT = 150  # of the chart of attempts under way
ENDS = 44  # of the chart of items that ended
ENDS_PARTS = 120  # bars of it, at most
ROW = 16  # of an item, at least
LANE = 5  # of attempts of an item that were under way at once, at least
_NICE_MS = (
    *(base * 10**power for power in range(4) for base in (1, 2, 5)),
    *(10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000),
    *(hours * 3_600_000 for hours in (1, 2, 3, 6, 12, 24, 48, 72, 168)),
)


def color(step: int) -> str:
    return COLORS[step] if step < len(COLORS) else REST


def span_ms(history: History) -> int:
    """The width of every chart: from the start to the end, or to the newest event."""
    return max(1, history.elapsed_ms, round(1_000 * (history.last_at - history.began)))


def timeline(history: History) -> str:
    """Who had the run, how many attempts were under way, when items ended; and each attempt where they are few."""
    parts = [_lanes(history), _under_way(history), _ends(history)]
    if history.items:
        parts.append(_attempts(history, history.items))
    return f'<div class="chart">{"".join(parts)}{_axis(history)}</div>{_legend(history)}'


def _x(history: History, ms: float) -> float:
    return 1_000 * min(max(0.0, ms / span_ms(history)), 1.0)


def _svg(height: int, shapes: str, name: str) -> str:
    return (
        f'<svg viewBox="0 0 1000 {height}" height="{height}" preserveAspectRatio="none" role="img"'
        f' aria-label="{shown(name)}">{shapes}</svg>'
    )


def _band(label: str, body: str) -> str:
    return f'<div class="band"><span class="label">{label}</span><div class="plot">{body}</div></div>'


def _rect(x: float, width: float, y: float, height: float, attributes: str, tip: str) -> str:
    return (
        f'<rect x="{x:.2f}" y="{y:.1f}" width="{max(width, 0.6):.2f}" height="{height:.1f}" {attributes}>'
        f"<title>{shown(tip)}</title></rect>"
    )


def _lanes(history: History) -> str:
    """The engines that had the run, one after the other; where none did; pauses; crashes."""
    shapes, marks = [], []
    for place, stint in enumerate(history.stints):
        since = _x(history, 1_000 * (stint.since - history.began))
        until = 1_000.0 if stint.until is None else _x(history, 1_000 * (stint.until - history.began))
        name = stint.name or stint.owner or "an engine"
        fate = {"lives": "has it", "lost": "was lost", "released": "let it go", "ended": "ended it"}[stint.fate]
        tip = f"{name}: from {date_time(stint.since)}; {fate}"
        shapes.append(_rect(since, until - since, 2, 14, f'class="stint s{place % 2}"', tip))
        if stint.fate == "lost":
            marks.append(_mark(until, f"{name} was lost here"))
    for pause in history.pauses:
        since = _x(history, 1_000 * (pause.since - history.began))
        until = 1_000.0 if pause.until is None else _x(history, 1_000 * (pause.until - history.began))
        shapes.append(_rect(since, until - since, 2, 14, 'class="pause"', f"paused from {date_time(pause.since)}"))
    lost = "".join(marks)
    return _band("engines", f"{_svg(18, ''.join(shapes), 'Engines that had the run')}{lost}")


def _mark(x: float, tip: str) -> str:
    return f'<b class="crash" style="left:{x / 10:.2f}%" title="{shown(tip)}">✕</b>'


def _under_way(history: History) -> str:
    """Attempts under way by step, one on the other."""
    busy = history.busy
    parts = len(busy.ended)
    if not parts or not busy.busy_ms:
        return ""
    levels = _levels(history)
    peak = max((sum(part) for part in zip(*(level for _, level in levels), strict=True)), default=0.0) or 1.0
    wide = 1_000 * busy.width_ms / span_ms(history)
    below, shapes = [0.0] * parts, []
    for place, (name, level) in enumerate(levels):
        above = [low + more for low, more in zip(below, level, strict=True)]
        if any(level):
            total = duration_ms(sum(level) * busy.width_ms)
            tip = shown(f"{name}: {total} of work, at most {max(level):.3g} at once")
            path = _area(below, above, wide, lambda value: HEIGHT * (1 - value / peak))
            shapes.append(f'<path d="{path}" fill="{color(place)}"><title>{tip}</title></path>')
        below = above
    label = f'under way<small title="most at once">{peak:,.3g}</small>'
    return _band(label, _svg(HEIGHT, "".join(shapes), "Attempts under way by step"))


def _levels(history: History) -> list[tuple[str, Sequence[float]]]:
    """By step, how many attempts were under way in each part; steps that have no colour of their own are one."""
    width = history.busy.width_ms
    found: list[tuple[str, Sequence[float]]] = [
        (step.id, [part / width for part in busy])
        for step, busy in zip(history.steps[: len(COLORS)], history.busy.busy_ms, strict=False)
    ]
    rest = history.busy.busy_ms[len(COLORS) :]
    if rest:
        found.append((f"{len(rest)} other steps", [sum(parts) / width for parts in zip(*rest, strict=True)]))
    return found


def _area(below: Sequence[float], above: Sequence[float], wide: float, y: Callable[[float], float]) -> str:
    """The outline of what lies between two staircases."""
    end = wide * len(above)
    there = [f"H{wide * place:.2f}V{y(value):.1f}" for place, value in _changes(above)]
    back = [f"V{y(value):.1f}H{wide * place:.2f}" for place, value in reversed(_changes(below))]
    return f"M0,{y(below[0]):.1f}{''.join(there)}H{end:.2f}{''.join(back)}Z"


def _changes(values: Sequence[float]) -> list[tuple[int, float]]:
    """Where a staircase begins and where it has a step, and how high it is from there on."""
    return [(place, value) for place, value in enumerate(values) if place == 0 or value != values[place - 1]]


def _ends(history: History) -> str:
    """Items that ended, those that failed on top."""
    joined = -(-len(history.busy.ended) // ENDS_PARTS)
    width_ms = joined * history.busy.width_ms
    ends, failures = _joined(history.busy.ended, joined), _joined(history.busy.failed, joined)
    peak = max(ends, default=0)
    if not peak or history.admitted == 1:
        return ""
    wide = 1_000 * width_ms / span_ms(history)
    shapes = []
    for place, (ended, failed) in enumerate(zip(ends, failures, strict=True)):
        if ended:
            tip = f"{plural(ended, 'item')} ended, {failed:,} of them failed, from {duration_ms(place * width_ms)} on"
            ok, bad = ENDS * (ended - failed) / peak, ENDS * failed / peak
            shapes.append(_rect(wide * place, wide, ENDS - ok, ok, 'class="done"', tip))
            if failed:
                tall = max(bad, 3)
                shapes.append(_rect(wide * place, wide, max(0, ENDS - ok - tall), tall, 'class="broken"', tip))
    label = f'items ended<small title="most in one bar">{peak:,}</small>'
    return _band(label, _svg(ENDS, "".join(shapes), "Items that ended"))


def _joined(counts: Sequence[int], size: int) -> list[int]:
    return [sum(counts[place : place + size]) for place in range(0, len(counts), max(1, size))]


def _attempts(history: History, items: Sequence[ItemHistory]) -> str:
    """A row an item, a bar an attempt."""
    rows = []
    for item in items:
        lanes = _stacked(item.spans)
        height = max(ROW, LANE * len(lanes))
        shapes = "".join(
            _attempt(history, item, span, lane, height / len(lanes))
            for lane, spans in enumerate(lanes)
            for span in spans
        )
        fate = {None: "open", True: "succeeded", False: "failed"}[item.ok]
        mark = "" if item.ok is not False else '<i class="failed" title="failed">✕</i>'
        name = f"Item {item.index}, {fate} after {duration_ms(item.duration_ms)}"
        rows.append(_band(f"item {item.index:,}{mark}", _svg(height, shapes, name)))
    return f'<div class="items">{"".join(rows)}</div>'


def _stacked(spans: Sequence[Span]) -> list[list[Span]]:
    """Spans in as few lanes as hold them without overlap."""
    lanes: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        lane = next((lane for lane in lanes if lane[-1].end <= span.start), None)
        if lane is None:
            lanes.append([span])
        else:
            lane.append(span)
    return lanes


def _attempt(history: History, item: ItemHistory, span: Span, lane: int, height: float) -> str:
    x, until = _x(history, span.start), _x(history, span.end)
    again = f", attempt {span.attempt}" if span.attempt > 1 else ""
    took = duration_ms(span.end - span.start)
    verdict = {"open": "under way for", "ok": "took"}.get(span.verdict, f"{span.verdict} after")
    tip = f"item {item.index}, {history.steps[span.step].id}{again}: {verdict} {took}"
    return _rect(x, until - x, lane * height, height - 1, f'fill="{color(span.step)}" class="{span.verdict}"', tip)


def _axis(history: History) -> str:
    whole = span_ms(history)
    step = next((nice for nice in _NICE_MS if whole / nice <= 6), _NICE_MS[-1] * -(-whole // (6 * _NICE_MS[-1])))
    marks = "".join(
        f'<span style="left:{100 * ms / whole:.2f}%">{duration_ms(ms) if ms else "0"}</span>'
        for ms in range(0, whole + 1, step)
        if ms <= 0.97 * whole
    )
    return f'<div class="band axis"><span class="label"></span><div class="plot">{marks}</div></div>'


def _legend(history: History) -> str:
    used = [step for step in history.steps if step.running.count or step.under_way or step.lost]
    named = [(step.id, color(step.index)) for step in used if step.index < len(COLORS)]
    if len(named) < len(used):
        named.append((f"{len(used) - len(named)} other steps", REST))
    chips = [f'<span><i style="background:{paint}"></i>{shown(name)}</span>' for name, paint in named]
    if any(stint.fate == "lost" for stint in history.stints):
        chips.append('<span><b class="bad">✕</b>an engine was lost</span>')
    if history.pauses:
        chips.append('<span><i class="pause"></i>paused</span>')
    if history.items and any(span.verdict in _CUT for item in history.items for span in item.spans):
        chips.append('<span><i class="cut"></i>did not end well: failed, retried or lost</span>')
    return f'<div class="legend">{"".join(chips)}</div>'


_CUT = ("failed", "retried", "lost", "defaulted")


def path_bar(path: Sequence[Segment], names: Sequence[str]) -> str:
    """The stretches of a path side by side, as long as they took."""
    whole = max(1, sum(segment.length for segment in path))
    return f'<div class="path">{"".join(_stretches(path, names, whole))}</div>'


def _stretches(path: Sequence[Segment], names: Sequence[str], whole: int) -> Iterator[str]:
    for segment in path:
        paint = f"background:{color(segment.step or 0)}" if segment.kind == "running" else ""
        share = 100 * segment.length / whole
        tip = shown(f"{stretch(segment, names)}: {duration_ms(segment.length)}")
        yield f'<i class="{segment.kind}" style="flex-grow:{max(share, 0.3):.2f};{paint}" title="{tip}"></i>'


def stretch(segment: Segment, names: Sequence[str]) -> str:
    """What a stretch of a path is, in words."""
    name = names[segment.step] if segment.step is not None and segment.step < len(names) else ""
    if segment.kind == "running":
        again = f", attempt {segment.attempt}" if segment.attempt > 1 else ""
        ended = f" ({segment.verdict})" if segment.verdict not in ("ok", "") else ""
        return f"{name}{again}{ended}"
    return {
        "before": "before the item began",
        "ready": f"waiting to start {name}",
        "retry": f"waiting to retry {name}",
        "down": f"until {name} was started again after its engine was gone",
        "after": "until the end was recorded",
    }[segment.kind]
