"""The README keeps its shape: the commands that others run stand where they look for them."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LARGEST_PICTURE = 300_000


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", README, re.MULTILINE | re.DOTALL)


def test_the_first_command_installs_and_runs_the_demo():
    assert blocks("sh")[0] == "python3 -m venv .venv && . .venv/bin/activate && pip install . && stepflow demo"


def test_the_second_command_installs_and_runs_the_tests():
    assert blocks("sh")[1] == (
        "python3 -m venv .venv && . .venv/bin/activate && pip install -e '.[dev]' && python -m pytest"
    )


def test_continuous_integration_takes_the_second_command_from_here():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    function = script[script.index("block()") : script.index("tests=")]

    taken = subprocess.run(
        ["bash", "-ec", f"{function}\nblock 2"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )

    assert taken.stdout.strip() == blocks("sh")[1]


def test_it_begins_with_one_sentence():
    title, sentence = README.split("\n\n")[:2]

    assert title == "# stepflow"
    assert re.fullmatch(r"[^.]+\.", sentence)


def test_the_flow_has_twelve_lines_and_the_component_six():
    flow, component = blocks("yaml")[0], blocks("python")[0]

    assert len(flow.splitlines()) <= 13  # with the comment that names the file
    assert len(component.splitlines()) <= 7


@pytest.mark.parametrize("picture", re.findall(r"\((docs/images/[\w.-]+)\)", README))
def test_its_pictures_are_there_and_small(picture):
    assert 0 < (ROOT / picture).stat().st_size < LARGEST_PICTURE


def test_every_script_that_a_claim_names_is_there():
    named = re.findall(r"\bpython ([\w/]+\.py)", README)

    assert named
    assert [script for script in named if not (ROOT / script).is_file()] == []
