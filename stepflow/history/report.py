"""A run's history as one HTML file that fetches nothing and needs no script to be read."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import pairwise
from string import Template

from stepflow.drawing.scene import Paint
from stepflow.drawing.svg import draw_svg
from stepflow.history.charts import color, path_bar, stretch, timeline
from stepflow.history.critical_path import Segment, item_path, run_path
from stepflow.history.markup import Column, folded, section, shown, table
from stepflow.history.needs import needs_of
from stepflow.history.records import FailureGroup, History, PendingRetry, StepHistory, SubRuns, Waits
from stepflow.history.table import show_table, waiting_on
from stepflow.history.words import amount, clock_time, date_time, duration, duration_ms, listed, plural
from stepflow.records import RunStatus

_OK: Paint = ("#dcfce7", "#22a155")
_BAD: Paint = ("#fee2e2", "#dc2626")
_SOME_BAD: Paint = ("#ffedd5", "#ea7317")
_WAITS: Paint = ("#fef3c7", "#d99a06")
_BUSY: Paint = ("#dbeafe", "#3b82f6")
_NEVER: Paint = ("#f1f5f9", "#94a3b8")

STATES: Sequence[tuple[Paint, str]] = (
    (_OK, "all succeeded"),
    (_SOME_BAD, "some failed"),
    (_BAD, "all failed"),
    (_WAITS, "waits or retries"),
    (_BUSY, "under way"),
    (_NEVER, "never started"),
)


class _Page(Template):
    delimiter = "@@"


def report_html(history: History) -> str:
    """Everything that users wrote is escaped, and the page forbids itself to fetch or run anything."""
    record = history.record
    page = files("stepflow.history").joinpath("page.html").read_text(encoding="utf-8")
    needs = needs_of(history.flow)
    return _Page(page).substitute(
        title=shown(record.flow_name or f"run {record.id}"),
        status=_status(history),
        lead=_lead(history),
        cards=_cards(history),
        notes="".join(f'<div class="note">{folded(note)}</div>' for note in _notes(history)),
        sections="".join(
            [
                section("What it waits for", _open(history)),
                section(
                    "Flow", _drawing(history), "Under each step: what became of it, and the median of its attempts."
                ),
                section("Timeline", timeline(history), _timeline_note(history)),
                section("Steps", _steps(history)),
                section("Failures", _failures(history), "Failed items, by code and by the step that failed them."),
                section("Where the run's time went", _run_path(history, needs)),
                section("The slowest items", _slowest(history, needs), _slowest_note(history)),
                section("Engines", _engines(history)),
                section("Sub-runs", _sub_runs(history.sub_runs)),
            ]
        ),
        footer=shown(f"Run {record.id}. Times are UTC. Written by stepflow; one file, nothing is fetched."),
    )


def _status(history: History) -> str:
    status = history.record.status
    return f'<span class="status {shown(status.value)}">{shown(_WORDS.get(status, status.value))}</span>'


_WORDS = {RunStatus.RECOVERY_FAILED: "recovery failed"}


def _lead(history: History) -> str:
    record = history.record
    end = f"{date_time(record.ended_at)}" if record.ended_at is not None else "not ended"
    parts = [f"run <code>{shown(record.id)}</code>", f"{date_time(history.began)} – {end}"]
    if record.key is not None:
        parts.append(f"key <code>{shown(record.key)}</code>")
    if history.retry_of is not None:
        parts.append(f"retry of <code>{shown(history.retry_of)}</code>")
    return " · ".join(parts)


def _notes(history: History) -> Iterator[str]:
    if history.record.error is not None:
        yield f"{history.record.error.code.value}: {history.record.error.message}"
    yield from show_table(history).notes


def _cards(history: History) -> str:
    record, elapsed = history.record, history.elapsed_ms
    ended = record.succeeded + record.failed
    total = f"of {record.total:,}" if record.total is not None else "so far"
    attempts = sum(step.running.count + step.lost for step in history.steps)
    retried, lost = (sum(getattr(step, name) for step in history.steps) for name in ("retried", "lost"))
    crashes = sum(stint.fate == "lost" for stint in history.stints)
    with_them = f"engines lost, {plural(lost, 'attempt')} with them" if lost else "engines lost"
    cards = [
        (f"{record.succeeded:,}", f"items succeeded {total}", ""),
        (f"{record.failed:,}", "items failed", "bad" if record.failed else ""),
        (duration_ms(elapsed), "from start to end" if record.ended_at is not None else "so far", ""),
        (f"{1_000 * ended / elapsed:,.3g}/s" if elapsed else "–", "items ended", ""),
        (duration_ms(history.durations.p50_ms) if history.durations.count else "–", "median item", ""),
        (amount(attempts), f"attempts, {amount(retried)} retried", ""),
        (f"{crashes:,}", with_them, "bad" if crashes else ""),
    ]
    return "".join(
        f'<div class="card {tone}"><b>{shown(v)}</b><span>{shown(name)}</span></div>' for v, name, tone in cards
    )


def _drawing(history: History) -> str:
    if history.flow is None:
        return ""
    steps = {step.id: step for step in history.steps}
    notes = {id: _step_note(step) for id, step in steps.items()}
    paints = {id: _paint(step) for id, step in steps.items()}
    drawn = draw_svg(history.flow, notes=notes, paints=paints).replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    used = dict.fromkeys(paints.values())
    legend = "".join(
        f'<span><i style="background:{fill};border:1.5px solid {border}"></i>{name}</span>'
        for (fill, border), name in STATES
        if (fill, border) in used
    )
    return f'<div class="dag">{drawn}</div><div class="legend">{legend}</div>'


def _step_note(step: StepHistory) -> str:
    parts = [f"✓ {amount(step.ok)}"] if step.ok else []
    parts += [f"✕ {amount(step.failed)}"] if step.failed else []
    parts += [f"↻ {amount(step.retried)}"] if step.retried else []
    parts += [f"● {amount(step.under_way)}"] if step.under_way else []
    text = " ".join(parts)
    return f"{text} · {duration_ms(step.running.p50_ms)}" if step.running.count else text


def _paint(step: StepHistory) -> Paint:
    if step.failed:
        return _SOME_BAD if step.ok or step.defaulted else _BAD
    if step.waits or step.retrying:
        return _WAITS
    if step.under_way:
        return _BUSY
    return _OK if step.ok or step.defaulted else _NEVER


def _timeline_note(history: History) -> str:
    width = duration_ms(history.busy.width_ms)
    return f"Who had the run, how much was under way and when items ended, in parts of {width}."


def _steps(history: History) -> str:
    work = max(1, sum(step.running.total_ms for step in history.steps))
    waits = any(waiting_on(step) for step in history.steps)
    columns = (
        Column("step"),
        *(Column(name, True) for name in ("ok", "failed", "retried", "lost", "p50", "p99")),
        Column("ready p50", True, tip="from when an attempt could start until it did"),
        Column("queued p50", True, tip="in a named queue: until a worker began"),
        Column("share of work"),
        *([Column("waiting on", is_text=True)] if waits else []),
    )
    return table(columns, (_step_row(step, work)[: len(columns)] for step in history.steps))


def _step_row(step: StepHistory, work: int) -> Sequence[str]:
    running, share = step.running, 100 * step.running.total_ms / work
    defaulted = f" <small>+{step.defaulted:,} defaulted</small>" if step.defaulted else ""
    bad = f"<b class=bad>{step.failed:,}</b>" if step.failed else "0"
    skipped = f" <small>+{step.skipped:,} not reached</small>" if step.skipped else ""
    dot = f'<i class="dot" style="{_fill(step)}"></i>'
    return (
        f"{dot}{shown(step.id)} <small>{shown(step.component)}</small>",
        f"{step.ok:,}{defaulted}",
        f"{bad}{skipped}",
        f"{step.retried:,}",
        f"{step.lost:,}",
        shown(duration_ms(running.p50_ms)) if running.count else "",
        shown(duration_ms(running.p99_ms)) if running.count else "",
        shown(duration_ms(step.ready.p50_ms)) if step.ready.count else "",
        shown(duration_ms(step.queued.p50_ms)) if step.queued.count else "",
        f'<span class="share"><i style="width:{share:.1f}%;{_fill(step)}"></i></span>{share:.0f}&nbsp;%',
        shown(waiting_on(step)),
    )


def _fill(step: StepHistory) -> str:
    return f"background:{color(step.index)}"


def _failures(history: History) -> str:
    columns = (
        Column("code"),
        Column("step", is_name=True),
        Column("items", True),
        Column("which", is_text=True),
        Column("the first said", is_text=True),
    )
    return table(columns, map(_failure_row, history.failures)) if history.failures else ""


def _failure_row(group: FailureGroup) -> Sequence[str]:
    which = shown(listed(group.items, group.count))
    return (
        f"<code>{group.code.value}</code>",
        shown(group.step or "–"),
        f"{group.count:,}",
        which,
        folded(group.message),
    )


def _open(history: History) -> str:
    names = [step.id for step in history.steps]
    waits = [wait for wait in history.waits if wait.now]
    rows = [*(_wait_row(wait, names) for wait in waits), *(_retry_row(retry, names) for retry in history.retries)]
    if not rows:
        return ""
    columns = (Column("step"), Column("what", is_text=True), Column("how many", True), Column("since or due", True))
    more = history.retrying - len(history.retries)
    rest = f"<p>and {plural(more, 'more retry').replace('retrys', 'retries')}</p>" if more > 0 else ""
    return table(columns, rows) + rest


def _wait_row(wait: Waits, names: Sequence[str]) -> Sequence[str]:
    return shown(names[wait.step]), shown(wait.reason), f"{wait.now:,}", f"since {clock_time(wait.since)}"


def _retry_row(retry: PendingRetry, names: Sequence[str]) -> Sequence[str]:
    why = f" after {retry.error.code.value}: {retry.error.message}" if retry.error is not None else ""
    due = f"due {clock_time(retry.due)}" if retry.due is not None else "–"
    return shown(names[retry.step]), folded(f"attempt {retry.attempt} of item {retry.item}{why}"), "1", due


def _run_path(history: History, needs: Sequence[Sequence[int]]) -> str:
    """The critical path of the run: that of the item that ended last."""
    path = run_path(history, needs)
    if history.last is None or not path:
        return ""
    said = f"The critical path of the run, whose last item to end was item {history.last.index:,}."
    before = next((segment for segment in path if segment.kind == "before"), None)
    if before is not None and before.length > 0.5 * history.elapsed_ms:
        said += f" {_before_said(history, before)}"
    return f"<p>{said}</p>{path_bar(path, _names(history))}{_path_table(path, history)}"


def _before_said(history: History, before: Segment) -> str:
    """What the time went on before the last item began, where that is most of it."""
    until = history.began + before.end / 1_000
    down = sum(max(0.0, min(after.since, until) - (stint.until or until)) for stint, after in pairwise(history.stints))
    paused = sum(max(0.0, min(pause.until or until, until) - pause.since) for pause in history.pauses)
    parts = [f"{duration(down)} without an engine"] if down >= 0.05 else []
    parts += [f"{duration(paused)} paused"] if paused >= 0.05 else []
    stood = f" ({' and '.join(parts)})" if parts else ""
    busiest = max(history.steps, key=lambda step: step.running.total_ms)
    share = 100 * busiest.running.total_ms / max(1, sum(step.running.total_ms for step in history.steps))
    return (
        f"Before it began, {duration_ms(before.length)}{stood} went on other items. {share:.0f} % of all work was in "
        f"<b>{shown(busiest.id)}</b>: more slots or workers for it, or less work in it, shorten the run most."
    )


def _slowest(history: History, needs: Sequence[Sequence[int]]) -> str:
    if history.admitted == 1:
        return ""  # it is the path of the run
    parts = []
    for place, item in enumerate(history.slowest):
        path = item_path(item, needs)
        fate = "" if item.ok else ', <b class="bad">failed</b>'
        head = f"item {item.index:,}: {duration_ms(item.duration_ms)}{fate}"
        opened = " open" if place == 0 else ""
        body = f"{path_bar(path, _names(history))}{_path_table(path, history)}"
        parts.append(f"<details class=item{opened}><summary>{head}</summary>{body}</details>")
    return "".join(parts)


def _slowest_note(history: History) -> str:
    p50, p99 = duration_ms(history.durations.p50_ms), duration_ms(history.durations.p99_ms)
    took = f"Items took {p50} at the median, {p99} at the 99th percentile."
    return f"{took} Each with its critical path: the chain of waits that its end hung on."


def _path_table(path: Sequence[Segment], history: History) -> str:
    whole = max(1, sum(segment.length for segment in path))
    names = _names(history)
    longest = sorted(path, key=lambda segment: -segment.length)[:12]
    rows = [
        (
            f'<i class="dot {segment.kind}" style="{_dot(segment)}"></i>{shown(stretch(segment, names))}',
            shown(duration_ms(segment.start)),
            shown(duration_ms(segment.length)),
            f"{100 * segment.length / whole:.0f} %",
        )
        for segment in path
        if segment in longest
    ]
    columns = (Column("stretch"), Column("from", True), Column("took", True), Column("share", True))
    left = len(path) - len(rows)
    rest = f"<p>and {plural(left, 'shorter stretch')}</p>" if left else ""
    return table(columns, rows) + rest


def _dot(segment: Segment) -> str:
    return f"background:{color(segment.step or 0)}" if segment.kind == "running" else ""


def _names(history: History) -> list[str]:
    return [step.id for step in history.steps]


def _engines(history: History) -> str:
    if len(history.stints) < 2 and not history.pauses:
        return ""
    rows = []
    for stint in history.stints:
        until = stint.until if stint.until is not None else history.last_at
        fate = {"lives": "has it", "lost": '<b class="bad">lost</b>', "released": "let it go", "ended": "ended it"}[
            stint.fate
        ]
        named = stint.name and stint.name != stint.owner
        name = f"{shown(stint.name)} <small>{shown(stint.owner)}</small>" if named else shown(stint.owner or "–")
        rows.append((name, date_time(stint.since), duration(until - stint.since), fate))
    for pause in history.pauses:
        until = pause.until if pause.until is not None else history.last_at
        rows.append(("paused", date_time(pause.since), duration(until - pause.since), "" if pause.until else "still"))
    return table((Column("engine"), Column("from", True), Column("for", True), Column("then")), rows)


def _sub_runs(sub_runs: SubRuns) -> str:
    if not sub_runs.count:
        return ""
    counted = ", ".join(f"{count:,} {shown(status.value)}" for status, count in sub_runs.by_status.items())
    return f"<p>{counted}</p>{_tree(sub_runs)}"


def _tree(sub_runs: SubRuns) -> str:
    if not sub_runs.count:
        return ""
    entries = []
    for child in sub_runs.shown:
        record = child.record
        total = f" of {record.total:,}" if record.total is not None else ""
        entries.append(
            f'<li><span class="status {shown(record.status.value)}">{shown(record.status.value)}</span> '
            f"{shown(record.flow_name or '')} <code>{shown(record.id)}</code> "
            f"<small>{record.succeeded + record.failed:,}{total} items</small>{_tree(child.children)}</li>"
        )
    more = sub_runs.count - len(sub_runs.shown)
    rest = f"<li><small>and {more:,} more</small></li>" if more else ""
    return f'<ul class="tree">{"".join(entries)}{rest}</ul>'
