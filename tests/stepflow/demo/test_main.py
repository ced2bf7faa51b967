"""The whole demo, on a folder of real files."""

import ast
import io
import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from polled import until
from rich.console import Console

from stepflow.demo import main
from stepflow.demo.cutting import BatchError
from stepflow.demo.inventory import Inventory, Source, take_inventory

FILES = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real files, one of newer grammar, one that is no Python and one that is no text."""
    folder = tmp_path_factory.mktemp("sources")
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.glob("[a-d]*.py"))[: FILES - 3]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "newer.py").write_text("if (n := 3):\n    print(n)\n")
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "binary.py").write_bytes(b"x = '\xff'\n")
    return folder


@pytest.fixture
def inventory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    inventory = take_inventory([folder])
    monkeypatch.setattr(main, "take_inventory", lambda *, quick: inventory)
    return inventory


class Done(NamedTuple):
    """What a whole demo left."""

    code: int
    shown: str
    lines: list[Any]
    page: Path


def run(folder: Path) -> Done:
    shown = io.StringIO()
    output, html = folder / "out.jsonl", folder / "audit.html"
    code = main.run_demo(quick=False, output=output, html=html, console=Console(file=shown, width=100))
    return Done(code, shown.getvalue(), [json.loads(line) for line in output.read_text().splitlines()], html)


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One demo that several tests look at: it takes a while."""
    inventory = take_inventory([folder])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "take_inventory", lambda *, quick: inventory)
        return run(tmp_path_factory.mktemp("done"))


def test_the_totals_are_those_of_an_independent_count(folder: Path, done: Done) -> None:
    parsed, newer = 0, 0
    functions = 0
    for path in folder.glob("*.py"):
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:
            continue
        parsed += 1
        functions += sum(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in ast.walk(tree))
        try:
            ast.parse(path.read_bytes(), feature_version=(3, 7))
        except SyntaxError:
            newer += 1

    shown = done.shown.splitlines()
    assert done.code == 0
    assert len(done.lines) == FILES == parsed + 2
    assert sum(line["result"]["measures"]["functions"] for line in done.lines) == functions
    assert f"{FILES} files" in shown[0]
    tolerated = newer + 2
    assert shown[1] == (
        f"  need Python 3.8 or newer {newer}   tolerated failures {tolerated}   failed 0   not Python here 2"
    )
    assert shown[-1] == f"  report: {done.page}"


def test_the_batch_is_killed_goes_on_and_ends_as_if_uncut(inventory: Inventory) -> None:
    audit = main.audit_sources(inventory, output=None, console=Console(file=io.StringIO()))

    assert audit.cut is not None
    assert FILES * 0.4 <= audit.cut.at < audit.cut.total == FILES
    assert (audit.cut.lost, audit.cut.compared, audit.cut.is_as_uncut) == (0, FILES, True)
    assert audit.cut.repeated > 0
    assert audit.cut.resumed_s > 0


def test_an_audit_that_cannot_write_its_lines_says_so(inventory: Inventory, tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="the results cannot be written to"):
        main.audit_sources(inventory, output=tmp_path / "gone" / "out.jsonl", console=Console(file=io.StringIO()))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_whoever_ends_the_demo_ends_all_that_it_started(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "stepflow.cli.main", "demo", "--quick"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    until(lambda: list(tmp_path.glob("stepflow-demo-*/audit.db")), "the batch has a store", process=demo)

    demo.send_signal(how)
    _, said = demo.communicate(timeout=60)

    assert (demo.returncode, said.strip()) == (130, b"interrupted")
    assert not list(tmp_path.iterdir())
    until(lambda: not is_anybody_left(demo.pid), "all processes of the demo have ended")


def is_anybody_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_output_lines_stand_in_the_order_of_the_files_and_repeat(
    folder: Path, done: Done, inventory: Inventory, tmp_path: Path
) -> None:
    again = run(tmp_path)

    assert [line["result"]["file"] for line in done.lines] == sorted(path.name for path in folder.glob("*.py"))
    assert again.lines == done.lines


def test_the_report_names_every_file_and_fetches_nothing(folder: Path, done: Done) -> None:
    page = done.page.read_text(encoding="utf-8")

    assert "://" not in page
    assert all(path.name in page for path in folder.glob("*.py"))
    assert page.count(f"{FILES} × p50") == 4


def test_a_file_that_vanishes_fails_alone(folder: Path, inventory: Inventory, tmp_path: Path) -> None:
    sources = [*inventory.sources[:2], Source(str(tmp_path / "gone.py"), "gone.py", "gone")]

    audit = main.audit_sources(Inventory(tuple(sources), "3"), output=None, console=Console(file=io.StringIO()))

    assert audit.failed == 1
    assert [result.ok for result in audit.results] == [True, True, False]
    assert audit.report.ranking.files == 2


def test_a_report_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such directory"):
        main.run_demo(quick=True, output=None, html=tmp_path / "gone" / "audit.html", console=Console())


def test_a_terminal_gets_a_bar_that_goes_away(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Inventory(inventory.sources[:4], inventory.python)
    monkeypatch.setattr(main, "take_inventory", lambda *, quick: few)
    shown = io.StringIO()
    console = Console(file=shown, width=100, force_terminal=True)

    main.run_demo(quick=False, output=None, html=tmp_path / "audit.html", console=console)

    assert "4/4" in shown.getvalue()
    assert f"0 failed, {shown.getvalue().split('tolerated failures ')[1].split()[0]} tolerated" in shown.getvalue()
