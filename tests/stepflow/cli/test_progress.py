"""How far a run is."""

import io
import sys

import pytest

from stepflow.cli.progress import Tally, bar, is_wanted
from stepflow.execution.events import InputsClosed, ItemEnded, RunStarted
from stepflow.records import ErrorCode, Failed, Succeeded

FAILED = Failed(ErrorCode.COMPONENT_FAILED, "no")


def started(run_id: str) -> RunStarted:
    return RunStarted(run_id=run_id, root_id=run_id, flow_id="f", started_at=0.0)


def test_only_the_first_run_counts() -> None:
    told: list[str] = []
    tally = Tally(on_start=told.append)

    tally.on_event("one", started("one"))
    tally.on_event("sub", started("sub"))
    tally.on_event("one", ItemEnded(0, Succeeded(1), 0))
    tally.on_event("sub", ItemEnded(0, Succeeded(1), 0))
    tally.on_event("one", ItemEnded(1, FAILED, 0))
    tally.on_event("one", InputsClosed(2))

    assert told == ["one"]
    assert (tally.ended, tally.failed, tally.total) == (2, 1, 2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_shows_what_is_done_and_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    tally = Tally()
    tally.total = 2

    with bar(tally, shown=True):
        tally.on_event("one", started("one"))
        tally.on_event("one", ItemEnded(0, FAILED, 0))

    assert "1/2" in screen.getvalue()
    assert "1 failed" in screen.getvalue()


@pytest.mark.parametrize(
    ("err", "out", "results_on_stdout", "wanted"),
    [
        (Terminal(), io.StringIO(), True, True),
        (Terminal(), Terminal(), True, False),
        (Terminal(), Terminal(), False, True),
        (io.StringIO(), io.StringIO(), False, False),
    ],
)
def test_a_bar_is_for_a_person(
    monkeypatch: pytest.MonkeyPatch, err: io.StringIO, out: io.StringIO, results_on_stdout: bool, wanted: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "stdout", out)

    assert is_wanted(results_on_stdout=results_on_stdout) is wanted
