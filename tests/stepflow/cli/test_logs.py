"""Logs on stderr or in a file."""

import json
import logging
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
