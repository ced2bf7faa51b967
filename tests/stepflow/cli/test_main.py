"""Finding commands, and how they end."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import click
import pytest

import stepflow
from stepflow.cli import main as entry
from stepflow.cli.main import COMMANDS
from stepflow.cli.main import cli as group
from stepflow.stores import open as stores


def test_every_command_says_in_its_help_what_the_list_says() -> None:
    with click.Context(group) as context:
        shown = {name: group.get_command(context, name) for name in COMMANDS}

    assert {name: (found.help or "").splitlines()[0] for name, found in shown.items() if found} == COMMANDS


def test_the_version_and_the_help_are_short(cli) -> None:
    assert cli("-V").out == f"stepflow {stepflow.__version__}\n"
    assert "visualize" in cli("-h").out
    assert cli("help", "init").out == cli("init", "--help").out


def test_the_help_imports_no_command_and_no_engine() -> None:
    code = "import sys, stepflow.cli.main as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"

    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240
    ).stdout.split()

    heavy = ("stepflow.engine", "stepflow.cli.run", "rich", "jsonschema_rs", "ruamel.yaml", "sqlite_utils", "anyio")
    assert [name for name in heavy if name in found] == []


def test_a_misspelled_command_is_a_usage_error_with_a_suggestion(cli) -> None:
    outcome = cli("vallidate")

    assert outcome.code == 2
    assert "there is no command 'vallidate'; did you mean 'validate'?" in outcome.err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("run", "flow.yaml"), "--store"),
        (("run", "flow.yaml"), "--config"),
        (("run", "flow.yaml"), "--output"),
        (("recover",), "--store"),
        (("recover",), "--group"),
        (("runs", "list"), "--config"),
    ],
)
def test_an_option_that_names_nothing_is_a_usage_error(cli, command: tuple[str, ...], option: str) -> None:
    outcome = cli(*command, option, "")

    assert (outcome.code, f"{option}': it is empty" in outcome.err) == (2, True)


@pytest.mark.parametrize(("name", "extra"), [("serve", "grpc"), ("migrate", "postgres")])
def test_a_command_of_an_absent_extra_says_how_to_add_it(
    cli, name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "_others", dict)

    outcome = cli(name, "--anything")

    assert outcome.code == 2
    assert f"the command {name!r} is not installed; add it with: pip install 'stepflow-engine[{extra}]'" in outcome.err


def test_a_command_comes_from_another_package_by_entry_point(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "_others", lambda: {"serve": EntryPoint("serve", f"{__name__}:serve", entry._GROUP)})
    monkeypatch.setattr(EntryPoint, "load", lambda self: serve)

    assert cli("serve").out == "serving\n"
    assert "serve" in cli("--help").out


def test_an_entry_point_whose_package_lacks_a_library_says_how_to_add_it(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "_others", lambda: {"serve": EntryPoint("serve", "no_such_module:x", entry._GROUP)})

    outcome = cli("serve")

    assert outcome.code == 2
    assert "pip install 'stepflow-engine[grpc]'" in outcome.err


def test_a_store_whose_package_lacks_a_library_says_how_to_add_it(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint("postgresql", "no_such_module:x", "stepflow.stores")]
    monkeypatch.setattr(stores, "entry_points", lambda **named: found if named["name"] == "postgresql" else [])

    lacking, absent = (
        cli("runs", "list", "--store", "postgresql://h/d"),
        cli("runs", "list", "--store", "postgres://h/d"),
    )

    assert (lacking.code, absent.code) == (1, 1)
    assert lacking.last.endswith("needs no_such_module; add it with: pip install 'stepflow-engine[postgres]'")
    assert absent.last.endswith("is installed; add it with: pip install 'stepflow-engine[postgres]'")


def test_an_unexpected_error_is_one_line_and_a_traceback_only_on_demand(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, bytes]:
        raise RuntimeError("oh")

    monkeypatch.setattr("stepflow.cli.init.templates", broken)

    plain, debugged = cli("init", "x"), cli("init", "x", "--debug")

    assert (plain.code, debugged.code) == (1, 1)
    assert plain.err.splitlines() == ["error: unexpected RuntimeError: oh; `stepflow --debug …` shows where it arose"]
    assert "Traceback" in debugged.err


def test_the_flag_of_the_reference_for_short_errors_may_stand_anywhere(cli) -> None:
    assert cli("validate", "--omit-stack-trace", "nope.yaml").err == cli("validate", "nope.yaml").err


def test_an_interrupt_before_anything_runs_is_130_without_a_traceback(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> dict[str, bytes]:
        raise KeyboardInterrupt

    monkeypatch.setattr("stepflow.cli.init.templates", interrupted)

    outcome = cli("init", "x")

    assert (outcome.code, outcome.err.strip()) == (130, "interrupted")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError("Error calling __set_name__ on a field"), KeyboardInterrupt()),
        (BaseExceptionGroup("unhandled errors in a TaskGroup", [KeyboardInterrupt()]), None),
    ],
)
def test_an_interrupt_that_comes_as_another_error_is_one(
    cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, cause: BaseException | None
) -> None:
    def interrupted() -> dict[str, bytes]:
        raise error from cause

    monkeypatch.setattr("stepflow.cli.init.templates", interrupted)

    outcome = cli("init", "x")

    assert (outcome.code, outcome.err.strip()) == (130, "interrupted")


@click.command()
def serve() -> None:
    click.echo("serving")


def test_flags_for_telemetry_are_taken_and_said_to_do_nothing(cli, tmp_path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text("output: 1")

    outcome = cli("--trace-enabled", "--otlp-endpoint", "http://127.0.0.1:4317", "run", str(flow), "--input", "null")

    assert outcome.code == 0
    assert "--trace-enabled has no effect" in outcome.err
    assert "--otlp-endpoint has no effect" in outcome.err
