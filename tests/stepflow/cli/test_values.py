"""Values on the command line."""

from pathlib import Path

import pytest

from stepflow.cli.values import looks_like_json, text_value, value_of
from stepflow.errors import InputInvalidError


@pytest.mark.parametrize(
    "text", ['{"a": 1}', "[1]", '"text"', " {", "true", "false", "null ", "0", "-12", "1.5", "2e9", "-0.5E-3"]
)
def test_what_starts_like_json_is_json(text: str) -> None:
    assert looks_like_json(text)


@pytest.mark.parametrize("text", ["input.json", "true.json", "nullable", "2026-11-22.json", "7z", "-", "~/x", "a{", ""])
def test_everything_else_is_a_file(text: str) -> None:
    assert not looks_like_json(text)


def test_a_file_with_the_name_of_a_number_is_still_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").mkdir()

    assert value_of("7", "--input") == 7


def test_bad_text_is_placed_in_the_option() -> None:
    with pytest.raises(InputInvalidError) as refused:
        text_value('{"a": }', "--input", "json")

    assert str(refused.value).startswith("--input:1:7: error: not JSON")


@pytest.mark.parametrize("name", ["absent.json", "text.txt"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("{}")

    with pytest.raises(InputInvalidError, match=name):
        value_of(name, "--input")
