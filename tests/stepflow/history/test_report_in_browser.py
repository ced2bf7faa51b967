"""The report as a real browser shows it: on a desk and on a phone, by day and by night."""

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stepflow.execution.events import (
    Event,
    ItemEnded,
    RunClaimed,
    RunPaused,
    RunResumed,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    StepWaiting,
)
from stepflow.history.records import History, SubRunHistory, SubRuns
from stepflow.history.report import report_html
from stepflow.records import ErrorCode, Failed, RunRecord, RunStatus, Succeeded

pytestmark = pytest.mark.slow

Tell = Callable[..., History]


class Browser:
    """A real browser without a window, spoken to over two pipes (the Chrome DevTools Protocol); no driver is needed."""

    def __init__(self, program: str, profile: Path) -> None:
        down_read, self._down = os.pipe()
        self._up, up_write = os.pipe()
        command = [sys.executable, "-c", _AT_3_AND_4, str(down_read), str(up_write), program, *_QUIET]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(down_read, up_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down_read)
        os.close(up_write)
        self._number = 0
        self._held = b""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def show(self, page: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Open a file as a screen of that size shows it."""
        self.events.clear()
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 640
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._hear()

    def evaluate(self, script: str) -> Any:
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def fetched(self) -> list[str]:
        """What the page asked for, itself among it."""
        return [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the browser wrote on its console."""
        return [str(event["params"]) for event in self.events if event["method"] in _COMPLAINTS]

    def ask(self, method: str, **params: Any) -> Any:
        return self._ask(method, session=self._session, **params)

    def close(self) -> None:
        os.close(self._down)
        os.close(self._up)
        self.process.terminate()
        self.process.wait(60)

    def _ask(self, method: str, session: str | None = None, **params: Any) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._down, msgspec.json.encode(message) + b"\0")
        while True:
            answer = self._hear()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._up], [], [], 60)
            assert ready, "the browser does not answer"
            piece = os.read(self._up, 1 << 16)
            assert piece, "the browser has ended"
            self._held += piece
        text, _, self._held = self._held.partition(b"\0")
        message: dict[str, Any] = msgspec.json.decode(text)
        if "method" in message and hasattr(self, "events"):
            self.events.append(message)
        return message


_COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")

_QUIET = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

_AT_3_AND_4 = """
import fcntl, os, sys
down, up = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(down, 3), os.dup2(up, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""A browser expects its pipes at these two numbers."""


def find_browser() -> str | None:
    """`STEPFLOW_TEST_BROWSER`, else what the machine has."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
    return os.environ.get("STEPFLOW_TEST_BROWSER") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no browser: install chromium (`apt-get install chromium`) or name one in STEPFLOW_TEST_BROWSER")
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


EVIL = "<script>document.title = 'taken over'</script><img src=x onerror=alert(1)>"
LONG = "a_step_whose_name_is_so_long_that_no_phone_has_room_for_it_in_one_line_" * 2
BROKEN = Failed(ErrorCode.COMPONENT_FAILED, f"it broke {EVIL} " + "x" * 3_000)
FLOW: dict[str, Any] = {
    "name": f"mail {EVIL}",
    "steps": [
        {"id": "load", "component": "/load", "input": {"$input": "$"}},
        *({"id": f"rank{place}", "component": "/ml/rank", "input": {"$step": "load"}} for place in range(12)),
        {"id": LONG, "component": "/w", "input": [{"$step": f"rank{place}"} for place in range(12)]},
    ],
    "output": {"$step": LONG},
}


def events(items: int) -> list[Event]:
    found: list[Event] = []
    for item in range(items):
        at = 1_000 * item
        found += [StepStarted(item, 0, 1, at), StepSucceeded(item, 0, 1, at + 400)]
        for step in range(1, 13):
            found += [StepStarted(item, step, 1, at + 400), StepSucceeded(item, step, 1, at + 400 + 50 * step)]
        found += [StepStarted(item, 13, 1, at + 1_000), StepRetried(item, 13, 1, BROKEN, 0.2, at + 1_100)]
        found.append(StepStarted(item, 13, 2, at + 1_300))
        if item % 5:
            found += [StepSucceeded(item, 13, 1, at + 1_900), ItemEnded(item, Succeeded(1), at + 1_900)]
        else:
            found += [StepFailed(item, 13, BROKEN, at + 1_900), ItemEnded(item, BROKEN, at + 1_900)]
    end = 1_000 * items
    found += [RunPaused(end), RunResumed(end + 2_000), StepStarted(items, 0, 1, end + 2_000)]
    found += [RunClaimed("01a20537-bbbb", LONG, end + 9_000), StepStarted(items, 0, 2, end + 9_001)]
    found += [StepWaiting(items, 0, f"a worker {EVIL}", end + 10_001)]
    return found


@pytest.fixture(params=["few items", "many items"])
def page(request: pytest.FixtureRequest, tell: Tell, tmp_path: Path) -> Path:
    items = 12 if request.param == "few items" else 300
    child = RunRecord(id="sub-" * 9, root_id="r", flow_id="f", flow_name=LONG, total=3)
    sub_runs = SubRuns(by_status={RunStatus.RUNNING: 7}, shown=(SubRunHistory(record=child, children=SubRuns()),))
    history = tell(*events(items), flow=FLOW, total=items + 1, key=LONG, error=BROKEN, sub_runs=sub_runs)
    path = tmp_path / "report.html"
    path.write_text(report_html(history), encoding="utf-8")
    return path


SCREENS = [(360, False), (360, True), (820, False), (1280, False), (1280, True), (2560, False)]


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_nothing_sticks_out_of_a_screen(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.show(page, width=width, dark=dark)

    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(_STICKING_OUT) == []


@pytest.mark.parametrize("dark", [False, True])
def test_every_word_stands_out_from_its_ground(browser: Browser, page: Path, dark: bool) -> None:
    browser.show(page, width=1280, dark=dark)

    assert browser.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark
    assert browser.evaluate(_PALE_WORDS) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_charts_are_wide_and_words_are_not_small(browser: Browser, page: Path, width: int) -> None:
    browser.show(page, width=width)

    assert browser.evaluate("Math.min(...[...document.querySelectorAll('.plot svg')].map(e => e.clientWidth))") > 200
    assert browser.evaluate(_SMALLEST_WORD) >= 11


def test_a_page_asks_for_nothing_and_complains_of_nothing(browser: Browser, page: Path) -> None:
    browser.show(page, width=1280)

    assert browser.fetched() == [page.as_uri()]
    assert browser.complaints() == []


def test_what_users_wrote_stays_text(browser: Browser, page: Path) -> None:
    browser.show(page, width=1280)

    assert browser.evaluate("document.title") == f"mail {EVIL}"
    assert browser.evaluate("document.scripts.length + document.images.length") == 0
    assert EVIL in browser.evaluate("document.querySelector('h1').textContent")


def test_long_messages_are_folded_and_open_without_a_script(browser: Browser, page: Path) -> None:
    browser.show(page, width=1280)
    pre = "document.querySelector('td details pre')"

    assert browser.evaluate(f"{pre}.checkVisibility()") is False
    browser.evaluate("document.querySelector('td details summary').click()")
    assert browser.evaluate(f"{pre}.checkVisibility()") is True


_STICKING_OUT = """
[...document.querySelectorAll('section *, header *, .cards *, .lead, .note')]
  .filter(e => !e.parentElement.closest('.wide, .dag, svg') && !e.matches('.crash'))
  .filter(e => e.getBoundingClientRect().right > (e.closest('section') || document.body).getBoundingClientRect().right)
  .map(e => e.outerHTML.slice(0, 120))
"""

_SMALLEST_WORD = """
Math.min(...[...document.querySelectorAll('main *:not(svg, svg *)')]
  .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
  .map(e => parseFloat(getComputedStyle(e).fontSize)))
"""

_PALE_WORDS = """
(() => {
  const parts = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = color => {
    const [r, g, b] = parts(color).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor, found = parts(color);
      if (found.length === 3 || found[3] === 1) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('main *:not(svg, svg *)')]
    .filter(e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .map(e => [light(getComputedStyle(e).color), light(ground(e)), e.outerHTML.slice(0, 120)])
    .map(([one, other, html]) => [(Math.max(one, other) + .05) / (Math.min(one, other) + .05), html])
    .filter(([contrast]) => contrast < 4.5);
})()
"""
"""Contrast below 4.5, the least that WCAG 2.2 asks of text (level AA)."""
