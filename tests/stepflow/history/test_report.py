"""The report: whole, closed off, and nothing in it that a user wrote as markup."""

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from stepflow.execution.events import (
    Event,
    ItemEnded,
    RunClaimed,
    RunEnded,
    RunPaused,
    RunResumed,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    StepWaiting,
)
from stepflow.history.records import History, SubRunHistory, SubRuns
from stepflow.history.report import report_html
from stepflow.records import ErrorCode, Failed, RunRecord, RunStatus, Succeeded

Tell = Callable[..., History]

EVIL = "</title></svg><script>alert('1')</script>\" onload=\"x\x00\u202e&amp;"
BROKEN = Failed(ErrorCode.COMPONENT_FAILED, f"it broke {EVIL}")

EVIL_FLOW: dict[str, Any] = {
    "name": EVIL,
    "steps": [
        {"id": EVIL, "component": f"/x{EVIL}", "input": {"$input": "$"}},
        {"id": "b", "component": "/b", "input": {EVIL: {"$step": EVIL}}},
    ],
    "output": {"$step": "b"},
}
VOID = {"meta", "br", "img", "input", "link"}


class Page(HTMLParser):
    """Refuses whatever is not closed in its place, and keeps what it saw."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


_HEADINGS = (
    "What it waits for",
    "Flow",
    "Timeline",
    "Steps",
    "Failures",
    "Where the run's time went",
    "The slowest items",
    "Engines",
    "Sub-runs",
)


def eventful(items: int = 4) -> list[Event]:
    events: list[Event] = []
    for item in range(items):
        at = 10 * item
        events += [StepStarted(item, 0, 1, at), StepSucceeded(item, 0, 1, at + 5), StepStarted(item, 1, 1, at + 6)]
        if item % 4 == 1:
            events += [StepRetried(item, 1, 1, BROKEN, 0.01, at + 7), StepStarted(item, 1, 2, at + 17)]
        if item % 4 == 2:
            events += [StepFailed(item, 1, BROKEN, at + 20), ItemEnded(item, BROKEN, at + 20)]
        elif item % 4 == 3:
            events += [StepDefaulted(item, 1, 1, BROKEN, at + 20), ItemEnded(item, Succeeded(1), at + 20)]
        else:
            events += [StepSucceeded(item, 1, 1, at + 20), ItemEnded(item, Succeeded(1), at + 20)]
    return events


def whole(tell: Tell, *, items: int = 4, flow: dict[str, Any] | None = None) -> History:
    """Everything that a report can show."""
    child = RunRecord(id=f"sub{EVIL}", root_id="r", flow_id="f", flow_name=EVIL, total=3)
    lost = items
    return tell(
        *eventful(items),
        RunPaused(10 * items),
        RunResumed(10 * items + 30),
        StepStarted(lost, 0, 1, 10 * items + 40),
        RunClaimed(f"owner{EVIL}", f"name{EVIL}\ud800", 10 * items + 500),
        StepStarted(lost, 0, 2, 10 * items + 501),
        StepWaiting(lost, 0, f"a worker {EVIL}", 10 * items + 900),
        StepRetried(lost + 1, 0, 1, BROKEN, 60.0, 10 * items + 901),
        flow=flow,
        total=items + 2,
        key=EVIL,
        error=BROKEN,
        sub_runs=SubRuns(
            by_status={RunStatus.RUNNING: 30},
            shown=(SubRunHistory(record=child, children=SubRuns()),),
        ),
    )


def test_a_report_shows_every_part_of_what_happened(tell: Tell) -> None:
    page = Page(report_html(whole(tell)))

    assert [word for word in page.words if word in _HEADINGS] == list(_HEADINGS)
    text = " ".join(page.words)
    for said in ("mail", "running", "load", "rank", "COMPONENT_FAILED", "between retries", "and 29 more", "✕"):
        assert said in text


def test_nothing_that_users_wrote_becomes_markup(tell: Tell) -> None:
    text = report_html(whole(tell, flow=EVIL_FLOW))

    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "\x00" not in text
    assert "\u202e" not in text
    assert text.encode("utf-8")
    assert any("<script>alert('1')</script>" in word for word in page.words)


@pytest.mark.parametrize("items", [4, 100])
def test_a_page_asks_for_nothing_and_runs_nothing(tell: Tell, items: int) -> None:
    page = Page(report_html(whole(tell, items=items)))

    policies = [attributes["content"] for tag, attributes in page.tags if tag == "meta" and "http-equiv" in attributes]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "embed", "form", "a"}
    assert not [name for _, attributes in page.tags for name in ("src", "href", "action") if name in attributes]
    assert "url(" not in report_html(whole(tell, items=items))


def test_few_items_have_a_row_each_and_many_are_drawn_together(tell: Tell) -> None:
    few, many = (report_html(whole(tell, items=items)) for items in (4, 100))

    assert few.count('aria-label="Item ') == 5
    assert many.count('aria-label="Item ') == 0
    assert "Items that ended" in many


def test_crashes_and_pauses_are_marked_where_they_happened(tell: Tell) -> None:
    text = report_html(whole(tell))

    assert 'class="crash" style="left:' in text
    assert 'class="pause"' in text
    assert "from 2023-11-14 22:13:20 UTC; was lost" in text


def test_the_drawing_tells_what_became_of_each_step(tell: Tell) -> None:
    text = report_html(whole(tell))

    assert "✓ 4 ↻ 1 ● 1 · 5 ms" in text
    assert "some failed" in text


def test_a_run_with_one_item_leaves_out_what_would_say_the_same_twice(tell: Tell) -> None:
    history = tell(*eventful(1), RunEnded(RunStatus.COMPLETED, 25))

    headings = [word for word in Page(report_html(history)).words if word in _HEADINGS]

    assert headings == ["Flow", "Timeline", "Steps", "Where the run's time went"]


def test_a_run_of_which_nothing_is_known_but_its_record_has_a_report_too(tell: Tell) -> None:
    page = Page(report_html(tell(missing=7, total=None)))

    assert any("7 earlier events are not kept" in word for word in page.words)


def test_the_size_of_a_report_does_not_grow_with_the_run(tell: Tell) -> None:
    thousand, more = (len(report_html(tell(*eventful(items), total=items))) for items in (1_000, 8_000))

    assert more < 1.5 * thousand
