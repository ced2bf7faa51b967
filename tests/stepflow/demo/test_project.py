import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from stepflow.demo.project import copy_demo
from stepflow.flow.read import read_flow

STEPFLOW = [sys.executable, "-c", "from stepflow.cli.main import main; main()"]


def test_the_copy_is_a_project_that_names_real_files(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "audit"

    written = copy_demo(directory)

    assert written == ["README.md", "audit.py", "components.py", "inputs.jsonl", "module.yaml", "rank.yaml"]
    lines = (directory / "inputs.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 1_000
    assert Path(json.loads(lines[0])["path"]).is_file()
    assert [read_flow(directory / name).name for name in ("module.yaml", "rank.yaml")] == ["module", "rank"]


def test_copied_components_need_nothing_of_the_demo(tmp_path: Path) -> None:
    copy_demo(tmp_path)

    assert "stepflow.demo" not in (tmp_path / "components.py").read_text(encoding="utf-8")


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    with pytest.raises(FileExistsError, match="not empty"):
        copy_demo(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_the_copy_says_to_type_works(tmp_path: Path) -> None:
    copy_demo(tmp_path)
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text("".join(inputs.read_text(encoding="utf-8").splitlines(keepends=True)[:5]), encoding="utf-8")
    block = re.search(r"```sh\n(.*?)```", (tmp_path / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block
    run, draw, program = (shlex.split(line, comments=True) for line in block[1].replace("\\\n", " ").splitlines())

    for command in ([*STEPFLOW, *run[1:]], [*STEPFLOW, *draw[1:]], [sys.executable, *program[1:]]):
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=240)

    assert len((tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    assert (tmp_path / "module.svg").read_text(encoding="utf-8").startswith("<svg")
    assert json.loads(ended.stdout)["ranking"]["files"] == 5
