"""The code in the documentation runs, and prints what the pages say it prints."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
PAGES = ["README.md", *sorted(DOCS)]
_LINK = re.compile(r"(?<!\!)\[[^\]]*\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_runs(name, read_page, page):
    for block in read_page(ROOT / name, name):
        page.run(block)


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md"])
def test_the_links_of_a_page_lead_somewhere(name):
    file = ROOT / name

    broken = [link for link in _LINK.findall(file.read_text(encoding="utf-8")) if not (file.parent / link).exists()]

    assert broken == []


def test_there_are_pages():
    assert "docs/tutorial.md" in PAGES
