"""The code in the documentation runs, and prints what the pages say it prints."""

import re
from pathlib import Path

import pytest

import stepflow
from stepflow import errors
from stepflow.cli.main import COMMANDS
from stepflow.errors import StepflowError
from stepflow.plan.checks import _KINDS as KINDS
from stepflow.records import ErrorCode

ROOT = Path(__file__).parents[2]
DOCS = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
PAGES = ["README.md", *sorted(DOCS)]
LONG = {f"docs/howto/{name}.md" for name in ("durable", "test-your-flows", "write-a-store")}
"""Pages whose code takes longer than that of all others together."""

_LINK = re.compile(r"(?<!\!)\[[^\]]*\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in PAGES]
)
def test_the_code_of_a_page_runs(name, read_page, page):
    for block in read_page(ROOT / name, name):
        page.run(block)


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md"])
def test_the_links_of_a_page_lead_somewhere(name):
    file = ROOT / name

    broken = [link for link in _LINK.findall(file.read_text(encoding="utf-8")) if not (file.parent / link).exists()]

    assert broken == []


@pytest.mark.parametrize(
    ("page", "heading", "least"), [("durability", "## Crashes", 16), ("liveness", "## What each case comes to", 10)]
)
def test_every_case_names_a_test_that_is_there(page, heading, least):
    text = (ROOT / f"docs/explanation/{page}.md").read_text(encoding="utf-8")
    rows = [line for line in text.partition(heading)[2].splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`([\w/]+\.py)::(\w+)`", row) for row in rows]

    missing = [
        f"{file}::{test}"
        for tests in named
        for file, test in tests
        if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]

    assert len(rows) >= least
    assert [row for row, tests in zip(rows, named, strict=True) if not tests] == []
    assert missing == []


def test_there_are_pages():
    assert "docs/tutorial.md" in PAGES


def test_every_command_is_in_the_reference():
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")

    assert [name for name in COMMANDS if f"## stepflow {name}" not in page] == []


def test_every_public_name_is_in_the_reference():
    page = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")

    assert [name for name in stepflow.__all__ if f":: stepflow.{name}\n" not in page] == []


def test_every_code_diagnostic_and_exception_is_in_the_reference():
    page = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    told = {int(code): kind for code, kind in re.findall(r"^\| (\d{4}) \| `(\w+)` \|", page, re.MULTILINE)}

    exceptions = [
        name
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, StepflowError) and name != "ProblemsError"
    ]

    assert told == KINDS
    assert [code for code in ErrorCode if f"| `{code}` |" not in page] == []
    assert [name for name in exceptions if f"`{name}`" not in page and f"stepflow.{name}`" not in page] == []
