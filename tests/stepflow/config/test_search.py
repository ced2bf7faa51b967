from pathlib import Path

import pytest

from stepflow.config.search import NAMES, find_config
from stepflow.errors import ConfigError


def _directories(tmp_path: Path) -> tuple[Path, Path]:
    flow, current = tmp_path / "flow", tmp_path / "current"
    flow.mkdir()
    current.mkdir()
    return flow, current


def test_the_directory_of_the_flow_comes_first(tmp_path: Path) -> None:
    flow, current = _directories(tmp_path)
    (flow / NAMES[3]).touch()
    (current / NAMES[0]).touch()

    assert find_config(flow, current) == flow / NAMES[3]


@pytest.mark.parametrize("name", NAMES)
def test_the_current_directory_is_searched_for_each_name(tmp_path: Path, name: str) -> None:
    flow, current = _directories(tmp_path)
    (current / name).touch()

    assert find_config(flow, current) == current / name
    assert find_config(None, current) == current / name


def test_two_files_in_one_directory_are_refused_naming_both(tmp_path: Path) -> None:
    flow, current = _directories(tmp_path)
    (flow / NAMES[0]).touch()
    (flow / NAMES[1]).touch()

    with pytest.raises(ConfigError, match=r"stepflow-config\.yml, stepflow-config\.yaml"):
        find_config(flow, current)


def test_several_files_where_nobody_looks_are_no_matter(tmp_path: Path) -> None:
    flow, current = _directories(tmp_path)
    (flow / NAMES[0]).touch()
    for name in NAMES:
        (current / name).touch()

    assert find_config(flow, current) == flow / NAMES[0]


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    assert find_config(*_directories(tmp_path)) is None
