"""Which store is meant, and which run."""

from pathlib import Path
from typing import Any

import pytest

from stepflow.cli.place import Place

from .conftest import LINE, records

sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@sqlite
def test_the_one_store_that_lies_here_is_taken_and_named(
    cli, done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEPFLOW_STORE")
    (Path.cwd() / "other.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    alone = cli("runs", "show", "last")
    cli(*LINE, "--store", "second.db")
    several = cli("runs", "list")

    assert alone.code == 0
    assert alone.err.startswith("store: runs.db (the only one here; --store names another)\n")
    assert several.code == 1
    assert several.last == "error: there are several stores here: runs.db, second.db; name one with --store"


@sqlite
def test_a_store_that_was_named_is_named_in_the_next_line(
    cli, done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = cli("runs", "list").last
    monkeypatch.delenv("STEPFLOW_STORE")
    named = cli("runs", "list", "--store", "runs.db").last

    assert named == f"{known} --store runs.db"


def test_no_store_at_all_is_an_error_that_says_how_to_name_one(cli, project: Path) -> None:
    outcome = cli("runs", "list")

    assert outcome.code == 1
    ways = "write --store FILE or --url HOST:PORT, or set STEPFLOW_STORE"
    assert outcome.last == f"error: no store is named: {ways}"


def test_the_configuration_names_the_store(cli, project: Path) -> None:
    Path("stepflow-config.yml").write_text(
        "plugins: {builtin: {type: builtin}}\nroutes: {/builtin: [{plugin: builtin}]}\n"
        "storageConfig: {type: sqlite, databaseUrl: 'sqlite:named.db'}\n"
    )

    assert "named.db: there is no such file" in cli("runs", "list").last


@sqlite
def test_an_unknown_run_leads_to_the_list(cli, done: dict[str, Any]) -> None:
    outcome = cli("runs", "show", "ffff")

    assert outcome.code == 1
    assert outcome.last == ("error: no run in runs.db has an id that begins with ffff; see: stepflow runs list")


@sqlite
def test_a_beginning_that_several_share_is_refused_with_their_ids(cli, done: dict[str, Any]) -> None:
    cli(*LINE)
    ids = [record["run_id"] for record in records(cli)]

    outcome = cli("runs", "cancel", ids[0][:2])

    assert outcome.code == 1
    assert all(run_id in outcome.err for run_id in ids)


def test_a_store_in_memory_cannot_be_looked_at(cli, project: Path) -> None:
    assert "can only be seen by the program that runs them" in cli("runs", "list", "--store", "memory:").last


def test_a_password_is_in_no_line_that_is_printed() -> None:
    place = Place("postgresql://ada:hunter2@host/db")

    assert place.line("stepflow runs list") == "stepflow runs list --store …"
    assert place.name == "postgresql://host/db"
    assert Place("my runs.db").line("stepflow runs list") == "stepflow runs list --store 'my runs.db'"
