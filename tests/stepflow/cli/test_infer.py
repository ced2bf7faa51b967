"""`stepflow infer`."""

from pathlib import Path

import pytest

from stepflow.flow.read import flow_text, read_flow

APP = ("--app", "components:app")
TYPED = """\
import stepflow
from typing import TypedDict


class Text(TypedDict):
    text: str


class Count(TypedDict):
    words: int


class Wanted(TypedDict):
    words: int
    greeting: str


app = stepflow.Components()


@app.component("/count")
def count(input: Text) -> Count:
    return {"words": 1}


@app.component("/greet")
def greet(input: Wanted) -> str:
    return ""
"""


@pytest.fixture
def typed(project: Path) -> Path:
    (project / "components.py").write_text(TYPED)
    return project


def test_the_flow_on_stdout_has_the_schemas_that_it_left_out(cli, typed: Path) -> None:
    outcome = cli("infer", "flow.yaml", *APP)

    inferred = flow_text(outcome.out)
    assert outcome.code == 0
    assert inferred.schemas.output == {"type": "string"}
    assert set(inferred.schemas.steps) == {"count", "greet"}
    assert inferred.steps == read_flow("flow.yaml").steps


def test_types_are_told_on_stderr(cli, typed: Path) -> None:
    plain = cli("infer", "flow.yaml", *APP).err
    shown = cli("infer", "flow.yaml", *APP, "--show-step-inputs").err

    assert "greet: string\n" in plain
    assert "output: string\n" in plain
    assert "count: is given { text: string }" in shown


def test_the_flow_goes_to_a_file_beside_it_or_to_one_that_is_named(cli, typed: Path) -> None:
    beside = cli("infer", "flow.yaml", *APP, "--output")
    named = cli("infer", "--flow", "flow.yaml", *APP, "-o", "typed.yaml")

    assert (beside.out, named.out) == ("", "")
    assert Path("flow.inferred.yaml").read_text() == Path("typed.yaml").read_text()


def test_a_type_that_does_not_fit_is_an_error_and_the_flow_is_printed_all_the_same(cli, typed: Path) -> None:
    flow = Path("flow.yaml")
    flow.write_text(flow.read_text().replace("greeting: {$variable: greeting}", "greeting: 5"))

    outcome = cli("infer", "flow.yaml", *APP)

    assert outcome.code == 1
    assert "flow.yaml:15:" in outcome.err
    assert "error 2100" in outcome.err
    assert outcome.out.startswith("name: hello\n")
