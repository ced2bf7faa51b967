"""`stepflow demo`: what the command adds to the tour."""

from pathlib import Path
from typing import Any

import pytest

from stepflow.cli import demo


def test_options_reach_the_tour_and_its_answer_is_the_exit_code(
    cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(demo, "run_demo", lambda **given: seen.update(given) or 3)

    outcome = cli("demo", "--quick", "--output", tmp_path / "r.jsonl")

    assert outcome.code == 3
    assert (seen["quick"], seen["output"], seen["html"]) == (True, tmp_path / "r.jsonl", Path("audit.html"))


def test_a_copy_is_only_written(cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "copy_demo", lambda directory: ["module.yaml", "rank.yaml"])

    outcome = cli("demo", "--copy", tmp_path / "mine")

    assert outcome.code == 0
    assert "module.yaml, rank.yaml" in outcome.err
