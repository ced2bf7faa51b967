"""Logs on stderr or in a file."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepflow.cli.logs import set_up_logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("stepflow")
    kept = root.handlers[:], root.level, own.level
    yield
    for handler in root.handlers:
        if handler not in kept[0]:
            handler.close()
    root.handlers, (root.level, own.level) = kept[0], kept[1:]


def shout() -> None:
    try:
        raise ValueError("too loud")
    except ValueError:
        logging.getLogger("stepflow.x").exception("it failed", extra={"run_id": "r1"})


def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("warn", "warn", "text", None)

    shout()

    err = capsys.readouterr().err
    assert err.endswith("ERROR stepflow.x: it failed: ValueError: too loud\n")
    assert len(err.splitlines()) == 1


def test_debug_shows_what_led_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("debug", "warn", "text", None)

    shout()

    assert "Traceback" in capsys.readouterr().err


def test_json_lines_carry_what_was_bound(tmp_path: Path) -> None:
    set_up_logs("info", "off", "json", str(tmp_path / "log"))

    shout()
    logging.getLogger("other").error("not shown")

    lines = (tmp_path / "log").read_text().splitlines()
    record = json.loads(lines[0])
    assert len(lines) == 1
    assert (record["level"], record["logger"], record["message"], record["run_id"]) == (
        "error",
        "stepflow.x",
        "it failed",
        "r1",
    )


def test_setting_up_twice_does_not_log_twice(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("warn", "warn", "text", None)
    set_up_logs("warn", "warn", "text", None)

    shout()

    assert len(capsys.readouterr().err.splitlines()) == 1


def test_logs_go_where_they_are_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("warn", "warn", "text", str(tmp_path / "log"), "stdout")
    shout()
    on_stdout = capsys.readouterr().out
    set_up_logs("warn", "warn", "text", str(tmp_path / "log"), "file")
    shout()

    assert "it failed" in on_stdout
    assert "it failed" in (tmp_path / "log").read_text()


def test_logs_on_stdout_stand_beside_the_results(project: Path) -> None:
    Path("components.py").write_text(
        "import logging\nimport stepflow\n\napp = stepflow.Components()\n\n\n"
        "@app.component('/count')\ndef count(input: dict) -> dict:\n"
        "    logging.getLogger('mine').warning('counted')\n    return {'words': 1}\n\n\n"
        "@app.component('/greet')\ndef greet(input: dict) -> str:\n    return 'ok'\n"
    )
    line = ["--log-destination", "stdout", "run", "flow.yaml", "--app", "components:app", "--input", '{"text": "a"}']

    done = subprocess.run(
        [sys.executable, "-m", "stepflow.cli.main", *line],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )

    assert "WARNING mine: counted" in done.stdout
    assert done.stdout.endswith('{"outcome":"success","result":"ok"}\n')
    assert "counted" not in done.stderr


def test_a_file_as_destination_needs_its_name(cli) -> None:
    assert cli("--log-destination", "file", "config", "check").code == 2
