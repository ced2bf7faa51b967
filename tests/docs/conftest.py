"""The pages of the documentation, as blocks that can be run."""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stepflow.config.read import load_config
from stepflow.errors import ProblemsError
from stepflow.flow.document import read_text
from stepflow.flow.read import flow_text
from stepflow.plan.checks import check
from stepflow.testing.flowtests import run_file

_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w.+-]*|\{.*\}.*)\s*")
_NOTE = re.compile(r"<!-- (?P<key>not run|file|exit|config)(?:: (?P<value>.*?))? -->")
_FILE = re.compile(r"# file: (\S+)")
_TIMEOUT_S = 300


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and what the comment right above it says."""

    page: str
    line: int
    language: str
    text: str
    notes: dict[str, str]
    expected: str | None = None  # the text block that follows: what running this one prints

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        named = _FILE.match(self.text)
        return self.notes.get("file") or (named[1] if named else None)


def blocks_of(page: Path, name: str) -> list[Block]:
    """Every fenced block but those of directives (`{toctree}`); a `text` block is the output of the one before it."""
    found: list[Block] = []
    notes: dict[str, str] = {}
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        fence = _FENCE.fullmatch(line)
        if fence is None:
            said = {note["key"]: note["value"] or "" for note in _NOTE.finditer(line)}
            notes = {**notes, **said} if said or not line else {}
            continue
        text = "\n".join(_until_closed(lines, fence))
        if not fence["language"].startswith("{"):
            found.append(Block(name, number, fence["language"], text, notes))
        notes = {}
    return _with_outputs(found)


def _until_closed(lines: Iterator[tuple[int, str]], fence: re.Match[str]) -> Iterator[str]:
    for _, line in lines:
        if line.strip() == fence["ticks"]:
            return
        yield line.removeprefix(fence["indent"])


def _with_outputs(blocks: list[Block]) -> list[Block]:
    kept: list[Block] = []
    for block in blocks:
        before = kept[-1] if kept else None
        is_output = block.language == "text" and not block.notes
        if is_output and before is not None and before.language in ("python", "sh") and before.expected is None:
            kept[-1] = Block(before.page, before.line, before.language, before.text, before.notes, block.text)
        else:
            kept.append(block)
    return kept


class Page:
    """Runs the blocks of a page in their order, in one folder and one namespace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._namespace: dict[str, Any] = {"__name__": "page"}

    def run(self, block: Block) -> None:
        if "not run" in block.notes:
            assert block.notes["not run"].strip(), f"{block.place}: say why the block is not run"
        elif block.file is not None:
            file = self._folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text + "\n", encoding="utf-8")
        elif block.language == "python":
            self._compare(block, self._execute(block))
        elif block.language == "sh":
            self._compare(block, self._shell(block))
        elif block.language in ("yaml", "json"):
            self._read(block)
        else:
            pytest.fail(f"{block.place}: a block that nothing runs; mark it with <!-- not run: reason -->")

    def _execute(self, block: Block) -> str:
        printed = io.StringIO()
        code = compile("\n" * block.line + block.text, block.page, "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, self._namespace)
        return printed.getvalue()

    def _shell(self, block: Block) -> str:
        there = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        done = subprocess.run(
            ["bash", "-ec", block.text],
            cwd=self._folder,
            env={**os.environ, "PATH": there, "COLUMNS": "100"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        wanted = int(block.notes.get("exit", "0"))
        assert done.returncode == wanted, f"{block.place}: it ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def _compare(self, block: Block, printed: str) -> None:
        if block.expected is None:
            return
        wanted = "(?s:.*?)".join(re.escape(part) for part in re.split("…", block.expected.strip()))
        assert re.fullmatch(wanted, printed.strip()), f"{block.place}: it printed\n{printed}"

    def _read(self, block: Block) -> None:
        """YAML and JSON: a flow where it has steps or an output, a configuration where it has plugins."""
        value = read_text(block.text, block.place, block.language).value
        if isinstance(value, dict) and ("plugins" in value or "config" in block.notes):
            load_config(value, environ={"STEPFLOW_DOCS": "1"}, directory=self._folder)
        elif isinstance(value, dict) and ("steps" in value or "output" in value):
            self._check_flow(block)

    def _check_flow(self, block: Block) -> None:
        try:
            flow = flow_text(block.text, name=block.place, format=block.language)
        except ProblemsError as error:
            pytest.fail(f"{block.place}: {error}")
        bad = [found.message for found in check(flow) if found.level != "warning"]
        assert not bad, f"{block.place}: {bad}"
        if flow.test is not None:
            file = self._folder / f"line-{block.line}.yaml"
            file.write_text(block.text, encoding="utf-8")
            report = run_file(file, components=self._namespace.get("app"))
            assert report.ok, f"{block.place}: {report.error or [case.diff or case.message for case in report.cases]}"


@pytest.fixture
def read_page() -> Callable[[Path, str], list[Block]]:
    return blocks_of


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """Runs blocks with a new folder as the current directory, whose modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Page(tmp_path)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]
