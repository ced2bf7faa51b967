"""`stepflow recover`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from polled import until

from .runs.conftest import ENDED_FIRST, ITEMS, gated, live, records, started, store

__all__ = ["gated", "live", "store"]  # fixtures

SUBMIT = """\
import os

import stepflow
from components import app
from stepflow.execution.options import RecoverySettings

if __name__ == "__main__":
    settings = RecoverySettings(lease_ttl_s=3)
    with stepflow.SyncEngine(app, store=os.environ["STEPFLOW_STORE"], recovery=settings) as engine:
        engine.submit("flow.yaml", list(range(6))).wait()
"""


@pytest.fixture
def orphan(cli: Callable[..., Any], gated: Path) -> str:
    """A run whose engine, a program's own, was killed while some items were under way."""
    Path("submit.py").write_text(SUBMIT)
    with subprocess.Popen([sys.executable, "submit.py"], stderr=subprocess.PIPE, text=True) as program:
        until(lambda: _count("second") == ITEMS, "every item has begun its second step", process=program)
        until(lambda: _ended(cli) == ENDED_FIRST, "the first items have ended", process=program)
        program.kill()
    until(lambda: records(cli)[0]["owner"] is None, "nobody has the run")
    run_id: str = records(cli)[0]["run_id"]
    return run_id


def _ended(cli: Callable[..., Any]) -> int:
    (record,) = records(cli)
    ended: int = record["succeeded"] + record["failed"]
    return ended


def _count(step: str) -> int:
    return Path("ledger").read_text().count(step) if Path("ledger").exists() else 0


def test_a_run_that_nobody_drives_is_gone_on_with_to_its_end(cli, orphan: str) -> None:
    Path("open").touch()

    outcome = cli("recover", "--app", "components:app")

    (record,) = records(cli)
    assert outcome.code == 3, outcome.err
    assert (record["run_id"], record["status"]) == (orphan, "failed")
    assert (record["succeeded"], record["failed"]) == (ITEMS - 1, 1)
    assert _count("second 0") == 1
    assert _count("second 5") == 2
    assert f"1 run recovered: {ITEMS - 1} items succeeded, 1 failed" in outcome.err
    assert outcome.last == "next: stepflow runs list"


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_only_the_group_that_is_meant_is_taken_over(cli, orphan: str) -> None:
    Path("open").touch()

    others = cli("recover", "--app", "components:app", "--group", "others")
    every = cli("recover", "--app", "components:app", "--all-groups")

    assert (others.code, "0 runs recovered" in others.err) == (0, True)
    assert "1 unfinished run is of another group than 'others', and left alone: --all-groups" in others.err
    assert (every.code, "1 run recovered" in every.err) == (3, True)


def test_a_file_that_is_not_there_is_no_store_without_runs(cli, tmp_path: Path) -> None:
    path = tmp_path / "misspelt.db"

    refused = cli("recover", "--store", str(path))

    assert (refused.code, refused.last) == (1, f"error: {path}: there is no such file")
    assert not path.exists()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_what_waits_for_somebody_else_is_left_alone_and_said(cli, live: subprocess.Popen[str]) -> None:
    live.kill()
    live.communicate(timeout=60)
    cli("runs", "pause", "last")

    paused = cli("recover", "last", "--app", "components:app")
    cli("runs", "cancel", "last")
    ended = cli("recover", "last", "--app", "components:app")

    assert (paused.code, ended.code) == (1, 1)
    assert " is paused; stepflow runs resume " in paused.err
    assert " has ended (cancelled)" in ended.err


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_component_that_is_not_here_is_named(cli, orphan: str) -> None:
    with started("recover") as recovering:
        assert recovering.stderr is not None
        said = next(line for line in recovering.stderr if " waits: " in line and line.startswith("run "))
        recovering.terminate()
        recovering.communicate(timeout=60)

    assert "no live engine serves /second; name its registry with --app" in said
    assert recovering.returncode == 130
    assert records(cli)[0]["status"] == "running"
