"""`stepflow visualize`: which picture goes where."""

import sys
from pathlib import Path

import pytest

PNG = b"\x89PNG\r\n"


@pytest.mark.parametrize(
    ("name", "start"), [("a.svg", b"<svg "), ("a.png", PNG), ("a.dot", b"digraph "), ("a.mmd", b"flowchart ")]
)
def test_the_extension_says_how_to_draw(cli, project: Path, name: str, start: bytes) -> None:
    outcome = cli("visualize", "flow.yaml", "-o", name)

    assert (outcome.code, outcome.out, outcome.err) == (0, "", f"drawn: {name}\n")
    assert Path(name).read_bytes().startswith(start)


def test_a_picture_lands_beside_the_flow_and_writes_over_nothing(cli, project: Path) -> None:
    first, second, named = cli("visualize", "flow.yaml"), cli("visualize", "flow.yaml"), None
    named = cli("visualize", "--flow", "flow.yaml", "--output", "flow.svg")

    assert (first.code, second.code, named.code) == (0, 1, 0)
    assert second.err == "error: flow.svg exists; name it to overwrite it: --output flow.svg\n"


@pytest.mark.parametrize("format", ["dot", "mermaid"])
def test_text_goes_to_stdout(cli, project: Path, format: str) -> None:
    outcome = cli("visualize", "flow.yaml", "--format", format)

    assert "count" in outcome.out
    assert outcome.err == ""


def test_a_picture_goes_to_stdout_where_that_is_said(cli, project: Path) -> None:
    assert cli("visualize", "flow.yaml", "-o", "-").out.startswith("<svg ")


def test_servers_and_details_can_be_left_out(cli, project: Path) -> None:
    whole = cli("visualize", "flow.yaml", "-o", "-").out
    bare = cli("visualize", "flow.yaml", "-o", "-", "--no-servers", "--no-details").out

    assert ("/count<" in whole, "/count<" in bare) == (True, False)


def test_an_invalid_flow_is_drawn_as_far_as_possible(cli, project: Path) -> None:
    Path("bad.yaml").write_text(Path("flow.yaml").read_text().replace("$step: count", "$step: cuont"))

    assert ">cuont<" in cli("visualize", "bad.yaml", "-o", "-").out


def test_an_unknown_extension_is_a_usage_error(cli, project: Path) -> None:
    assert cli("visualize", "flow.yaml", "-o", "flow.pdf").code == 2


def test_without_pillow_png_says_how_to_add_it(cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)

    outcome = cli("visualize", "flow.yaml", "-o", "flow.png")

    assert outcome.code == 1
    assert "pip install 'stepflow-engine[visualize]'" in outcome.err
    assert not Path("flow.png").exists()


def test_a_place_that_cannot_be_written_is_one_line(cli, project: Path) -> None:
    outcome = cli("visualize", "flow.yaml", "-o", "nowhere/flow.svg")

    assert outcome.code == 1
    assert outcome.err == "error: the picture cannot be written to nowhere/flow.svg: No such file or directory\n"
