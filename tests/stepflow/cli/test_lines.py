"""Inputs as JSON Lines."""

import os
from pathlib import Path

import anyio
import pytest

from stepflow.cli import lines as lines_module
from stepflow.cli.lines import InputFile, line_value
from stepflow.errors import InputInvalidError


def test_lines_are_read_only_as_they_are_wanted(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"n": 1}\n' + "not JSON\n" * 10)

    with InputFile(str(file)) as lines:
        values = lines.values()
        assert isinstance(values, type(x for x in ()))
        assert next(values) == {"n": 1}
        with pytest.raises(InputInvalidError, match="in.jsonl:2:1: error: not JSON"):
            next(values)


@pytest.mark.parametrize(("text", "count"), [("", 0), ("1\n", 1), ("1\n2", 2), ("1\r\n2\r\n", 2)])
def test_lines_are_counted_without_being_read(tmp_path: Path, text: str, count: int) -> None:
    (tmp_path / "in.jsonl").write_bytes(text.encode())

    with InputFile(str(tmp_path / "in.jsonl")) as lines:
        assert lines.count() == count
        assert list(lines.values()) == [1, 2][:count]


def test_a_pipe_gives_each_line_when_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    async def read() -> list[object]:
        seen: list[object] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, write)
            with await anyio.to_thread.run_sync(InputFile, str(path)) as lines:
                assert lines.count() is None
                seen.extend([value async for value in lines.values()])  # type: ignore[union-attr]
        return seen

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            for part in (b'{"a"', b": 1}\n2", b"2\n", b"3"):
                pipe.write(part)

    assert anyio.run(read) == [{"a": 1}, 22, 3]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\n", "in:7: error: a blank line is not an input; write one JSON value a line, null for no input"),
        (b"  \r\n", "in:7: error: a blank line"),
        (b'{"a": 1,}\n', "in:7:8: error: not JSON"),
        (b"\xff\n", "in:7: error: not UTF-8"),
        (b'{"a": NaN}\n', "in:7:7: error: not JSON"),
        (b"1 2\n", "in:7:3: error: not JSON"),
        (b"[" * 5000 + b"]" * 5000, "in:7:"),
    ],
)
def test_a_bad_line_is_named(line: bytes, said: str) -> None:
    with pytest.raises(InputInvalidError) as refused:
        line_value(line, "in", 7)

    assert said in str(refused.value)


def test_a_mark_at_the_front_of_the_file_is_no_part_of_the_first_line() -> None:
    assert line_value(b"\xef\xbb\xbf{}\n", "in", 1) == {}


def test_a_line_of_ten_megabytes_is_a_line_like_any_other() -> None:
    assert line_value(b'"' + b"x" * 10_000_000 + b'"\n', "in", 1) == "x" * 10_000_000


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 5_000_000)

    async def read() -> None:
        with InputFile("/dev/zero") as lines:
            async for _ in lines.values():  # type: ignore[union-attr]
                pass

    with pytest.raises(InputInvalidError, match="/dev/zero:1: error: a line may have 5,000,000 bytes"):
        anyio.run(read)
