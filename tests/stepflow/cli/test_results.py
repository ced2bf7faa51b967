"""Files of results that several commands may want at once."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from stepflow.cli import results
from stepflow.cli.failure import CommandError
from stepflow.cli.results import FileResults, OutputError
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


class FullDisk(io.BytesIO):
    """Takes some, and then nothing more."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, content: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_with_the_file_and_what_was_done_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = opened(tmp_path / "out.jsonl")
    file.begin()
    file.write(Succeeded(1))
    whole = file._opened
    whole.flush()
    file._stream = FullDisk(whole)

    with pytest.raises(OutputError, match=r"written to .*out\.jsonl\.part: No space left on device; free some space"):
        file.write(Succeeded(2))
    file.close()
    whole.close()

    assert (tmp_path / "out.jsonl.part").read_text() == '{"outcome":"success","result":1}\n'
    assert "what was done so far is in" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize(
    ("inputs", "ends_as", "said"),
    [("in.jsonl", "running", "type the same line again to go on"), ("-", "cancelled", "")],
    ids=["file", "stdin"],
)
def test_a_stored_run_whose_results_cannot_be_written_goes_on_where_something_can_go_on_with_it(
    cli: Any, project: Path, inputs: str, ends_as: str, said: str
) -> None:
    (project / "in.jsonl").write_text('{"text": "a"}\n' * 300)
    line = ["run", "flow.yaml", "--app", "components:app", "--inputs", inputs, "--store", "runs.db"]
    with open("/dev/full", "wb") as full, (project / "in.jsonl").open() as given:
        done = subprocess.run(
            [sys.executable, "-m", "stepflow.cli.main", *line],
            stdin=given,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )

    (record,) = [json.loads(line) for line in cli("runs", "list", "--store", "runs.db", "--json").lines]
    assert done.returncode == 1
    assert said in done.stderr
    assert "error: the results cannot be written to stdout: No space left on device; free some space" in done.stderr
    assert record["status"] == ends_as
