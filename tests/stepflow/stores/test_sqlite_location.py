"""Which file a path or URL means."""

from pathlib import Path

import pytest

from stepflow.errors import StoreError
from stepflow.stores.sqlite.location import path_of


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("runs.db", "runs.db"),
        ("a folder/runs.db", "a folder/runs.db"),
        ("/var/lib/100%25.db", "/var/lib/100%25.db"),
        ("what?.db", "what?.db"),
        ("sqlite:runs.db", "runs.db"),
        ("sqlite://runs.db", "runs.db"),
        ("sqlite:/var/runs.db", "/var/runs.db"),
        ("sqlite:///var/runs.db", "/var/runs.db"),
        ("sqlite:/x.db?mode=rwc", "/x.db"),
        ("sqlite:x.db?mode=rw", "x.db"),
        ("sqlite:a%20b.db", "a b.db"),
        ("sqlite:///C:/runs.db", "C:/runs.db"),
    ],
)
def test_a_location_means_a_file(location: str, path: str) -> None:
    assert path_of(location) == Path(path)


def test_a_path_object_is_never_a_url() -> None:
    assert path_of(Path("sqlite:runs.db")) == Path("sqlite:runs.db")


@pytest.mark.parametrize(
    "location", [":memory:", "sqlite::memory:", "sqlite://:memory:", "sqlite:x?mode=memory", "file::memory:"]
)
def test_a_database_in_memory_is_refused_with_the_way_to_have_one(location: str) -> None:
    with pytest.raises(StoreError, match="leave `store` out"):
        path_of(location)


@pytest.mark.parametrize("location", ["", "sqlite:", "sqlite://"])
def test_a_location_without_a_file_is_refused(location: str) -> None:
    with pytest.raises(StoreError, match="names no file"):
        path_of(location)


@pytest.mark.parametrize("parameter", ["mode=ro", "cache=shared", "immutable="])
def test_a_parameter_that_would_not_be_obeyed_is_refused_by_name(parameter: str) -> None:
    with pytest.raises(StoreError, match=f"{parameter} is not known"):
        path_of(f"sqlite:runs.db?{parameter}")


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(StoreError, match="NUL"):
        path_of("runs\0.db")
