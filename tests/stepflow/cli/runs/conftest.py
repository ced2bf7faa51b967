"""Runs in a store: those that have ended, and one that an engine in a process of its own is working on."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from polled import until

FLOW = """\
name: gated
steps:
  - {id: first, component: /first, input: {$input: $}}
  - {id: second, component: /second, input: {$step: first}}
output: {$step: second}
"""
COMPONENTS = """\
import asyncio
from pathlib import Path

import stepflow

app = stepflow.Components()


def note(line: str) -> None:
    with open("ledger", "a") as ledger:
        ledger.write(line + "\\n")


@app.component("/first")
async def first(number: int) -> int:
    note(f"first {number}")
    return number


@app.component("/second")
async def second(number: int) -> int:
    note(f"second {number}")
    if number == 1 and not Path("mended").exists():
        raise ValueError("one is refused")
    while number >= 3 and not Path("open").exists():
        await asyncio.sleep(0.01)
    return number * 10
"""
CONFIG = """\
plugins: {builtin: {type: builtin}}
routes: {/builtin: [{plugin: builtin}]}
recovery: {leaseTtlSecs: 3}  # a killed engine is soon known to be gone
"""
ITEMS = 6
ENDED_FIRST = 3  # the others wait until there is a file `open`
LINE = ("run", "flow.yaml", "--app", "components:app", "--inputs", "in.jsonl", "--output", "out.jsonl")


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    return "runs.db" if request.param == "sqlite" else str(request.getfixturevalue("empty_postgres_url"))


@pytest.fixture
def gated(project: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose second step waits at some items as long as there is no file `open`; one item fails."""
    (project / "flow.yaml").write_text(FLOW)
    (project / "components.py").write_text(COMPONENTS)
    (project / "stepflow-config.yml").write_text(CONFIG)
    (project / "in.jsonl").write_text("".join(f"{number}\n" for number in range(ITEMS)))
    monkeypatch.setenv("STEPFLOW_STORE", store)
    return project


def records(cli: Callable[..., Any]) -> list[dict[str, Any]]:
    """What `runs list` says, newest first."""
    return [json.loads(line) for line in cli("runs", "list", "--json").lines]


@contextmanager
def started(*line: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, killed at the end if it is still there."""
    command = [sys.executable, "-m", "stepflow.cli.main", *line]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def live(cli: Callable[..., Any], gated: Path) -> Iterator[subprocess.Popen[str]]:
    """`stepflow run`, whose run waits with some items ended, one of them failed."""
    with started(*LINE) as process:
        until(lambda: _has_stalled(cli, process), "every item has begun its second step", process=process)
        yield process


def _has_stalled(cli: Callable[..., Any], process: subprocess.Popen[str]) -> bool:
    if not Path("ledger").exists():
        return False
    waiting = Path("ledger").read_text().count("second")
    return (
        waiting == ITEMS and bool(found := records(cli)) and found[0]["succeeded"] + found[0]["failed"] == ENDED_FIRST
    )


@pytest.fixture
def done(cli: Callable[..., Any], gated: Path) -> dict[str, Any]:
    """A run that has ended, with one failed item."""
    Path("open").touch()
    outcome = cli(*LINE)
    assert outcome.code == 3, outcome.err
    return records(cli)[0]
