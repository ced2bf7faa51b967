"""Files of results that several commands may want at once."""

from pathlib import Path

import pytest

from stepflow.cli import results
from stepflow.cli.failure import CommandError
from stepflow.cli.results import FileResults
from stepflow.records import Succeeded


def opened(path: Path) -> FileResults:
    found = FileResults(path, yaml=False)
    found.prepare()
    return found


def test_what_another_command_is_writing_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_TRIES", 2)
    monkeypatch.setattr(results, "_WAIT_S", 0)
    first, second = opened(tmp_path / "out.jsonl"), opened(tmp_path / "out.jsonl")
    first.begin()
    first.write(Succeeded(1))

    with pytest.raises(CommandError, match=r"another command is writing to .*out\.jsonl\.part; name another file"):
        second.begin()
    second.close()
    first.complete()
    first.close()

    assert (tmp_path / "out.jsonl").read_text() == '{"outcome":"success","result":1}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_whoever_waited_for_another_command_writes_the_same_file_again(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "out.jsonl"), opened(tmp_path / "out.jsonl")
    first.begin()
    first.write(Succeeded(1))
    first.complete()
    first.close()

    second.begin()
    second.write(Succeeded(2))
    between = (tmp_path / "out.jsonl").read_text()
    second.complete()
    second.close()

    assert between == '{"outcome":"success","result":1}\n'
    assert (tmp_path / "out.jsonl").read_text() == '{"outcome":"success","result":2}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
