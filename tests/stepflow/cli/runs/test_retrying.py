"""`stepflow runs retry`."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import ITEMS, records


def test_failed_items_are_run_again_as_a_new_run(cli, done: dict[str, Any]) -> None:
    Path("mended").touch()

    outcome = cli("runs", "retry", done["run_id"], "--app", "components:app", "-o", "again.jsonl")

    new, old = records(cli)
    ledger = Path("ledger").read_text().splitlines()
    lines = [json.loads(line) for line in Path("again.jsonl").read_text().splitlines()]
    assert outcome.code == 0, outcome.err
    assert [line["result"] for line in lines] == [10 * number for number in range(ITEMS)]
    assert (new["status"], new["retry_of"], old["status"]) == ("completed", old["run_id"], "failed")
    assert (ledger.count("first 1"), ledger.count("second 1"), ledger.count("second 2")) == (1, 2, 1)
    assert f": {ITEMS - 1} of {ITEMS} are taken as they are" in outcome.err
    assert outcome.last.endswith(": stepflow runs show last")


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_an_item_that_fails_again_is_the_exit_code(cli, done: dict[str, Any]) -> None:
    outcome = cli("runs", "retry", "last", "--app", "components:app")

    assert outcome.code == 3
    assert 'item 1 failed at step "second": COMPONENT_FAILED: one is refused' in outcome.err
    assert len(outcome.lines) == ITEMS


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_run_without_failures_is_not_run_again(cli, done: dict[str, Any]) -> None:
    Path("mended").touch()
    cli("runs", "retry", "last", "--app", "components:app")

    outcome = cli("runs", "retry", "last", "--app", "components:app")

    assert outcome.code == 1
    assert outcome.last.endswith(f"has no failed item: all {ITEMS} succeeded")


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_run_that_has_not_ended_is_to_be_gone_on_with(cli, live: Any) -> None:
    live.kill()
    live.communicate(timeout=60)

    outcome = cli("runs", "retry", "last", "--app", "components:app")

    assert outcome.code == 1
    assert "has not ended (running); to go on with it: stepflow recover " in outcome.last


def test_a_file_that_is_not_there_stays_so(cli, tmp_path: Path) -> None:
    path = tmp_path / "misspelt.db"

    refused = cli("runs", "retry", "last", "--store", str(path), "--app", "components:app")

    assert (refused.code, refused.last) == (1, f"error: {path}: there is no such file")
    assert not path.exists()
