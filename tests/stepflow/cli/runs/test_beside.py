"""Looking at a run that an engine in another process has, and asking for something: on SQLite and PostgreSQL."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
from polled import until

from stepflow.cli.runs import asking

from .conftest import ENDED_FIRST, ITEMS, LINE, records, started


def test_a_run_can_be_looked_at_while_it_goes_on(cli, live: subprocess.Popen[str]) -> None:
    until(
        lambda: any(line.endswith("item 5  second  begins") for line in cli("runs", "events", "last").lines), "item 5"
    )
    (record,) = records(cli)

    listed = cli("runs", "list")
    shown = cli("runs", "show", "last")
    told = cli("runs", "events", record["run_id"][:8])
    explained = cli("runs", "explain", "last", "--json")
    reported = cli("runs", "report", "last", "-o", "run.html")

    assert {record["status"], record["flow_name"]} == {"running", "gated"}
    assert str(live.pid) in record["owner"]["place"]
    row = next(line for line in listed.lines if "gated" in line)
    assert row.startswith(record["run_id"][:8])
    assert str(live.pid) in row
    assert ["first", "/first", str(ITEMS)] in [line.split()[:3] for line in shown.lines]
    assert any("COMPONENT_FAILED" in line and "one is refused" in line for line in shown.lines)
    assert any(line.endswith("item 5  second  begins") for line in told.lines)
    assert json.loads(explained.out)["status"] == "running"
    assert record["run_id"] in Path("run.html").read_text()
    assert [each.code for each in (listed, shown, told, explained, reported)] == [0] * 5


def test_a_run_is_paused_resumed_and_cancelled_by_its_engine(cli, live: subprocess.Popen[str]) -> None:
    paused = cli("runs", "pause", "last")
    while_paused = records(cli)[0]
    explained = cli("runs", "explain", "last")
    again = cli("runs", "pause", "last")
    resumed = cli("runs", "resume", "last")
    while_resumed = records(cli)[0]
    refused = cli("runs", "delete", "last")
    cancelled = cli("runs", "cancel", "last")
    out, err = live.communicate(timeout=60)

    short = while_paused["run_id"][:8]
    assert f"run {short} is paused: {ENDED_FIRST} of its items have ended" in paused.err
    assert paused.last == f"next: stepflow runs resume {short}"
    assert while_paused["status"] == "paused"
    assert "it is paused, so no step begins" in explained.out
    assert f"run {short} is paused already" in again.err
    assert while_resumed["status"] == "running"
    assert "is resumed" in resumed.err
    assert refused.code == 1
    assert f"run {short} goes on (running); end it first: stepflow runs cancel {short}" in refused.err
    assert f"run {short} is cancelled" in cancelled.err
    assert records(cli)[0]["status"] == "cancelled"
    assert records(cli)[0]["cancelled"] == ITEMS - ENDED_FIRST
    assert live.returncode == 3
    assert f"the run was cancelled when {ENDED_FIRST} of its items had ended" in err
    assert f"{ITEMS} items" in err


def test_events_are_followed_to_the_end(cli, live: subprocess.Popen[str]) -> None:
    with started("runs", "events", "last", "--follow", "--json") as following:
        assert following.stdout is not None
        first = json.loads(following.stdout.readline())
        Path("open").touch()
        rest = [json.loads(line) for line in following.stdout]
        following.wait(timeout=60)
    live.communicate(timeout=60)

    assert first["event"] == "RunStarted"
    assert (rest[-1]["event"], rest[-1]["status"]) == ("RunEnded", "failed")
    assert [event["position"] for event in (first, *rest)] == list(range(1, len(rest) + 2))
    assert following.returncode == 0


def test_what_nobody_drives_is_asked_for_here(cli, live: subprocess.Popen[str]) -> None:
    live.kill()
    live.communicate(timeout=60)
    until(lambda: records(cli)[0]["owner"] is None, "nobody has the run")

    orphan = cli("runs", "list")
    explained = cli("runs", "explain", "last")
    paused, status = cli("runs", "pause", "last"), records(cli)[0]["status"]
    resumed, then = cli("runs", "resume", "last"), records(cli)[0]["status"]
    cancelled, finally_ = cli("runs", "cancel", "last"), records(cli)[0]

    assert "nobody" in orphan.out
    assert "the engine that drove it is gone" in explained.out
    assert (status, then, finally_["status"]) == ("paused", "running", "cancelled")
    assert [paused.code, resumed.code, cancelled.code] == [0, 0, 0]
    assert finally_["succeeded"] + finally_["failed"] == ENDED_FIRST
    assert "Traceback" not in paused.err + resumed.err + cancelled.err


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_an_engine_that_does_not_answer_does_it_when_it_goes_on(
    cli, live: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE_S", 0.3)
    until(
        lambda: cli("runs", "events", "last").out.count("second  begins") == ITEMS, "all have begun"
    )  # then it writes no more
    live.send_signal(signal.SIGSTOP)

    asked = cli("runs", "cancel", "last")
    before = records(cli)[0]["status"]
    live.send_signal(signal.SIGCONT)
    until(lambda: records(cli)[0]["status"] == "cancelled", "the run is cancelled")

    assert (asked.code, before) == (1, "running")
    assert f"process {live.pid} was asked and has not answered for 0 s; it will do it when it goes on" in asked.err


def test_a_killed_line_goes_on_when_it_is_typed_again(cli, live: subprocess.Popen[str]) -> None:
    """At once on SQLite, and as soon as the killed engine is known to be gone on PostgreSQL."""
    live.kill()
    live.communicate(timeout=60)
    Path("open").touch()

    outcome = cli(*LINE)

    (record,) = records(cli)
    lines = Path("out.jsonl").read_text().splitlines()
    assert outcome.code == 3
    assert f"resuming {record['run_id'][:8]}: {ENDED_FIRST} of {ITEMS} done, " in outcome.err
    assert [json.loads(line).get("result") for line in lines] == [0, None, 20, 30, 40, 50]
    assert calls() == {**{f"first {n}": 1 for n in range(ITEMS)}, **{f"second {n}": 1 + (n >= 3) for n in range(ITEMS)}}


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_paused_line_stays_paused_and_says_how_it_goes_on(cli, live: subprocess.Popen[str]) -> None:
    live.kill()
    live.communicate(timeout=60)
    cli("runs", "pause", "last")
    Path("open").touch()

    with started(*LINE) as again:
        assert again.stderr is not None
        said = again.stderr.readline()
        until(lambda: records(cli)[0]["owner"] is not None, "somebody has the run", process=again)
        resumed = cli("runs", "resume", "last")
        again.communicate(timeout=60)

    run_id = records(cli)[0]["run_id"]
    assert said == f"run {run_id[:8]} is paused: it goes on after `stepflow runs resume {run_id}`\n"
    assert (resumed.code, again.returncode) == (0, 3)
    assert records(cli)[0]["succeeded"] == ITEMS - 1


def calls() -> dict[str, int]:
    lines = Path("ledger").read_text().splitlines()
    return {line: lines.count(line) for line in lines}


def test_the_same_line_waits_for_a_run_that_another_engine_has(cli, live: subprocess.Popen[str], store: str) -> None:
    before = calls()
    if store == "runs.db":
        for line in (LINE, ("recover",), ("runs", "retry", "last")):
            refused = cli(*line)
            assert refused.code == 1
            assert f"runs.db is used by process {live.pid}" in refused.err
            assert refused.last.startswith("`stepflow runs` looks at its runs")
        return
    Path("elsewhere").mkdir()
    other = (*LINE[:-1], "elsewhere/out.jsonl")

    left = cli(*other, "--detach")
    with started(*other) as waiting:
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        Path("open").touch()
        waiting.communicate(timeout=60)
    live.communicate(timeout=60)

    assert left.code == 0
    assert left.out.strip() == records(cli)[0]["run_id"]
    assert ", and is left to it (--new starts over)\n" in left.err
    assert said.endswith(": waiting for its results (--new starts over)\n")
    assert waiting.returncode == 3
    assert Path("elsewhere/out.jsonl").read_bytes() == Path("out.jsonl").read_bytes()
    assert calls() == before
    assert len(records(cli)) == 1
