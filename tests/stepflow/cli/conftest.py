"""The command line, called as a function."""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from stepflow.cli.main import main

FLOW = """\
name: hello
description: Counts the words of a text and greets its writer.
schemas:
  properties:
    input: {type: object, required: [text], properties: {text: {type: string}}}
    variables: {properties: {greeting: {type: string, default: Hello}}}
steps:
  - id: count
    component: /count
    input: {text: {$input: text}}
  - id: greet
    component: /greet
    input:
      words: {$step: count, path: words}
      greeting: {$variable: greeting}
output: {$step: greet}
"""
COMPONENTS = """\
import stepflow

app = stepflow.Components()


@app.component("/count")
def count(input: dict) -> dict:
    \"\"\"How many words a text has.\"\"\"
    print("counting")
    return {"words": len(input["text"].split())}


@app.component("/greet")
async def greet(input: dict) -> str:
    return f"{input['greeting']}: {input['words']}"
"""


class Outcome:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return self.err.splitlines()[-1]


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Calls `stepflow` with these arguments; `stdin` is what a pipe would hold."""

    def call(*arguments: str | Path, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsysbinary.readouterr()
        code = exit_code([str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return Outcome(code, out.decode(), err.decode())

    return call


def exit_code(arguments: Sequence[str]) -> int:
    try:
        main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    raise AssertionError("main ends by SystemExit")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with flow.yaml and components.py, made the current one."""
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "components.py").write_text(COMPONENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("components", None)
    yield tmp_path
    sys.modules.pop("components", None)
