"""`stepflow init`: the project that it writes works."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stepflow.cli.init import templates

FILES = [
    "README.md",
    "components.py",
    "config.dev.yml",
    "config.prod.yml",
    "flow.yaml",
    "inputs.jsonl",
    "pytest.ini",
    "test_flow.py",
    "vars.dev.yml",
    "vars.prod.yml",
]


@pytest.fixture
def hello(cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert cli("init", "hello").code == 0
    monkeypatch.chdir(project / "hello")
    return project / "hello"


def test_the_project_is_complete_and_the_next_step_is_named(cli, project: Path) -> None:
    outcome = cli("init", "hello")

    assert sorted(path.name for path in Path("hello").iterdir()) == FILES
    assert outcome.last == (
        'next: cd hello && stepflow run flow.yaml --app components:app --input \'{"text": "hi there"}\''
    )


def test_files_are_written_over_only_by_force(cli, project: Path) -> None:
    Path("hello").mkdir()
    Path("hello/flow.yaml").write_text("mine")

    refused = cli("init", "hello")

    assert (refused.code, refused.err) == (1, "error: hello has flow.yaml already; --force writes over them\n")
    assert Path("hello/flow.yaml").read_text() == "mine"
    assert cli("init", "hello", "--force").code == 0
    assert Path("hello/flow.yaml").read_bytes() == templates()["flow.yaml"]


def test_the_flow_runs_on_one_input_and_on_many(cli, hello: Path) -> None:
    one = cli("run", "flow.yaml", "--app", "components:app", "--input", '{"text": "hi there"}')
    many = cli("run", "flow.yaml", "--app", "components:app", "--inputs", "inputs.jsonl", "--output", "out.jsonl")

    assert json.loads(one.out)["result"] == {"message": "Hello! You wrote 2 words."}
    assert (many.code, len(Path("out.jsonl").read_text().splitlines())) == (0, 3)


def test_nothing_is_wrong_with_it(cli, hello: Path) -> None:
    checked = cli("validate", "flow.yaml", "--config", "config.dev.yml", "--type-check", "--strict")

    assert checked.out == "1 flow checked: nothing is wrong\n"


def test_a_misspelled_step_is_found_where_the_tour_says(cli, hello: Path) -> None:
    Path("flow.yaml").write_text(Path("flow.yaml").read_text().replace("$step: count", "$step: cuont"))

    assert cli("validate", "flow.yaml").lines[0] == (
        'flow.yaml:14:22: error 3003: step "cuont" is not defined; did you mean "count"?'
    )


def test_its_test_case_passes(cli, hello: Path) -> None:
    assert cli("test", "flow.yaml", "--app", "components:app").lines[0] == "flow.yaml: 1/1 passed"


def test_its_configurations_differ_from_the_flow_in_nothing_but_place_and_values(cli, hello: Path) -> None:
    given = ("--config", "config.dev.yml", "--variables", "vars.dev.yml", "--input", '{"text": "hi there"}')

    dev = cli("run", "flow.yaml", *given)

    assert json.loads(dev.out)["result"] == {"message": "Hello, developer! You wrote 2 words."}
    assert cli("validate", "flow.yaml", "--config", "config.prod.yml").code == 0


def test_its_own_tests_pass(hello: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)

    assert "2 passed" in done.stdout, done.stdout
