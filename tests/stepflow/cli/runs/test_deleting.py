"""`stepflow runs delete`."""

from pathlib import Path
from typing import Any

import pytest

from .conftest import LINE, records

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture
def three(cli, done: dict[str, Any]) -> list[str]:
    """The ids of three runs that have ended, newest first."""
    for _ in range(2):
        cli(*LINE, "--new")
    return [record["run_id"] for record in records(cli)]


def left(cli: Any) -> list[str]:
    return [record["run_id"] for record in records(cli)]


def test_one_run_is_deleted_without_asking(cli, three: list[str]) -> None:
    outcome = cli("runs", "delete", three[1])

    assert outcome.code == 0
    assert outcome.err.startswith("deleted ")
    assert left(cli) == [three[0], three[2]]
    assert cli("runs", "show", three[1]).code == 1


def test_several_are_deleted_only_where_that_is_confirmed(cli, three: list[str]) -> None:
    asked = cli("runs", "delete", three[0], three[1])
    still = left(cli)
    sure = cli("runs", "delete", three[0], three[1], "--yes")

    assert (asked.code, sure.code) == (1, 0)
    assert asked.last == "error: delete 2 runs in runs.db? Nobody can be asked here: say --yes"
    assert still == three
    assert left(cli) == [three[2]]


def test_rules_say_which_runs_are_deleted(cli, three: list[str]) -> None:
    young = cli("runs", "delete", "--older-than", "1d", "--yes")
    still = left(cli)
    beyond = cli("runs", "delete", "--keep", "1", "--yes")

    assert "deleted 0 runs" in young.err
    assert still == three
    assert "deleted 2 runs" in beyond.err
    assert left(cli) == three[:1]


def test_all_that_are_older_than_an_instant_are_deleted(cli, three: list[str]) -> None:
    outcome = cli("runs", "delete", "--older-than", "1ms", "--yes")

    assert "deleted 3 runs" in outcome.err
    assert cli("runs", "list").last == "no runs in runs.db"


def test_runs_and_rules_exclude_each_other(cli, gated: Path) -> None:
    assert cli("runs", "delete").code == 2
    assert cli("runs", "delete", "last", "--keep", "1").code == 2
