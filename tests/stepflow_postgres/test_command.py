"""`stepflow migrate`."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from postgres_server import execute

from stepflow.cli.main import cli
from stepflow.errors import StoreError

Migrate = Callable[..., Result]


@pytest.fixture
def migrate(monkeypatch: pytest.MonkeyPatch) -> Migrate:
    monkeypatch.delenv("STEPFLOW_STORE", raising=False)
    return lambda *arguments: CliRunner().invoke(cli, ["migrate", *arguments])


def test_it_applies_what_is_missing_and_then_finds_nothing_to_do(migrate: Migrate, postgres_url: str):
    first, second = [migrate("--store", postgres_url) for _ in range(2)]

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert ": applied 0001_tables, 0002_" in first.output
    assert second.output.endswith(": up to date, nothing to do\n")


def test_the_status_changes_nothing_and_says_by_its_exit_code_whether_anything_is_to_come(
    migrate: Migrate, postgres_server_url: str, postgres_url: str
):
    schema = postgres_url.rpartition("=")[2]

    before = migrate("--status", "--store", postgres_url)
    there = execute(postgres_server_url, f"SELECT to_regnamespace('{schema}')::text")
    migrate("--store", postgres_url)
    after = migrate("--status", "--store", postgres_url)

    assert there == [(None,)]
    assert before.exit_code == 1
    assert re.search("0001_tables +to come: run `stepflow migrate`", before.output)
    assert after.exit_code == 0
    assert re.search("0001_tables +applied", after.output)
    assert "to come" not in after.output


def test_a_schema_of_a_newer_version_is_left_alone(migrate: Migrate, postgres_server_url: str, postgres_url: str):
    schema = postgres_url.rpartition("=")[2]
    migrate("--store", postgres_url)
    execute(postgres_server_url, f"INSERT INTO {schema}._migrations VALUES ('9999_later', now())")

    refused, shown = migrate("--store", postgres_url), migrate("--status", "--store", postgres_url)

    assert isinstance(refused.exception, StoreError)
    assert "a newer version made this store (it has 9999_later)" in str(refused.exception)
    assert shown.exit_code == 1
    assert "9999_later" in shown.output


def test_the_store_is_that_of_the_environment_where_none_is_named(
    migrate: Migrate, postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STEPFLOW_STORE", postgres_url)

    assert ": applied 0001_tables" in migrate().output


def test_a_password_is_not_shown(migrate: Migrate, postgres_url: str):
    url = postgres_url.replace("postgres@", "postgres:s3cret@")

    outputs = [migrate("--status", "--store", url).output, migrate("--store", url).output]

    assert [output for output in outputs if "s3cret" in output] == []


def test_a_server_that_does_not_answer_is_an_error_that_says_so(migrate: Migrate):
    outcome = migrate("--store", "postgresql://someone:s3cret@127.0.0.1:1/stepflow")

    assert isinstance(outcome.exception, StoreError)
    assert "the server does not answer" in str(outcome.exception)
    assert "s3cret" not in str(outcome.exception)


@pytest.mark.parametrize("arguments", [(), ("--store", ""), ("--store", "memory:"), ("--store", "mysql://here/x")])
def test_a_store_without_a_schema_is_a_usage_error(migrate: Migrate, arguments: tuple[str, ...]):
    outcome = migrate(*arguments)

    assert outcome.exit_code == 2


@pytest.mark.parametrize("location", ["{}", "sqlite:{}"])
def test_a_sqlite_file_is_opened_and_so_brought_up_to_date(migrate: Migrate, tmp_path: Path, location: str):
    file = tmp_path / "runs.db"
    file.touch()

    outcome = migrate("--store", location.format(file))

    assert outcome.exit_code == 0
    assert outcome.output == f"{file}: up to date, as a SQLite file is whenever an engine has opened it\n"
    assert file.stat().st_size > 0


@pytest.mark.parametrize("options", [(), ("--status",)])
def test_a_sqlite_file_that_is_not_there_is_not_made(migrate: Migrate, tmp_path: Path, options: tuple[str, ...]):
    file = tmp_path / "runs.db"

    outcome = migrate("--store", str(file), *options)

    assert outcome.exit_code == 0
    assert "brought up to date whenever an engine opens it" in outcome.output
    assert not file.exists()
