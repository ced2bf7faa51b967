"""`stepflow runs list`, `show`, `events` and `explain`, for runs that have ended."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import ITEMS, LINE

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


def test_runs_are_listed_newest_first_with_what_became_of_them(cli, done: dict[str, Any]) -> None:
    Path("mended").touch()
    cli(*LINE)

    outcome = cli("runs", "list")

    heads, newest, oldest = outcome.lines
    assert heads.split() == ["RUN", "FLOW", "STATUS", "ITEMS", "FAILED", "AGE", "TOOK", "OWNER"]
    assert newest.split()[1:5] == ["gated", "completed", f"{ITEMS}/{ITEMS}", "0"]
    assert oldest.split()[1:5] == ["gated", "failed", f"{ITEMS}/{ITEMS}", "1"]
    assert outcome.last == f"next: stepflow runs show {newest.split()[0]}"
    assert cli("runs", "show", newest.split()[0]).code == cli("runs", "show", oldest.split()[0]).code == 0


def test_a_list_is_narrowed(cli, done: dict[str, Any]) -> None:
    Path("mended").touch()
    cli(*LINE)

    assert len(cli("runs", "list", "--json").lines) == 2
    assert len(cli("runs", "list", "--json", "--limit", "1").lines) == 1
    assert len(cli("runs", "list", "--json", "--limit", "1", "--all").lines) == 2
    assert json.loads(cli("runs", "list", "--json", "--status", "failed").out)["run_id"] == done["run_id"]
    assert cli("runs", "list", "--flow", "other").last == "no runs that match in runs.db"


def test_the_documented_keys_are_there(cli, done: dict[str, Any]) -> None:
    shown = json.loads(cli("runs", "show", "last", "--json").out)
    explained = json.loads(cli("runs", "explain", "last", "--json").out)
    told = [json.loads(line) for line in cli("runs", "events", "last", "--json").lines]

    page = (Path(__file__).parents[4] / "docs/reference/cli.md").read_text(encoding="utf-8")
    missing = {key for found in (done, shown, shown["steps"][0], explained) for key in found if f"`{key}`" not in page}
    assert missing == set()
    assert shown["run"] == done
    assert (shown["steps"][1]["step"], shown["steps"][1]["ok"], shown["steps"][1]["failed"]) == ("second", 5, 1)
    assert [(each["code"], each["step"], each["items"]) for each in shown["failures"]] == [
        ("COMPONENT_FAILED", "second", [1])
    ]
    assert told[0].items() >= {"position": 1, "event": "RunStarted"}.items()


def test_what_is_likely_to_come_next_is_said(cli, done: dict[str, Any]) -> None:
    failed = cli("runs", "show", "last")
    Path("mended").touch()
    cli(*LINE)
    completed = cli("runs", "show", "last")

    assert failed.last.startswith("next: stepflow runs retry ")
    assert completed.last.startswith("next: stepflow runs report ")


def test_the_events_of_one_item_are_told_alone(cli, done: dict[str, Any]) -> None:
    outcome = cli("runs", "events", "last", "--item", "1")

    told = [line.split(maxsplit=1)[1] for line in outcome.lines if "item 1 " in line]
    assert told == [
        "item 1  first  begins",
        "item 1  first  succeeded",
        "item 1  second  begins",
        "item 1  second  failed with COMPONENT_FAILED: one is refused",
        "item 1  failed with COMPONENT_FAILED: one is refused",
    ]
    assert not [line for line in outcome.lines if "item 2 " in line]


def test_a_run_that_has_ended_has_nothing_to_explain(cli, done: dict[str, Any]) -> None:
    assert f"run {done['run_id']}: it has ended (failed)" in cli("runs", "explain", "last").out


def test_a_report_that_cannot_be_written_is_an_error(cli, done: dict[str, Any]) -> None:
    outcome = cli("runs", "report", "last", "-o", "gone/run.html")

    assert outcome.code == 1
    assert outcome.last.startswith("error: the report cannot be written to gone/run.html: ")
