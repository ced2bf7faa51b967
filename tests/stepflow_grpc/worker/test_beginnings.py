"""What a worker began lately, as another process reads it."""

import os
from collections.abc import Iterator

import pytest

from stepflow_grpc.frames import Begun
from stepflow_grpc.worker.beginnings import SIZE, Beginnings, read_beginnings


@pytest.fixture
def beginnings() -> Iterator[Beginnings]:
    made = Beginnings()
    yield made
    made.close()


def test_nothing_began(beginnings: Beginnings) -> None:
    assert read_beginnings(beginnings.file) == []


def test_what_began_is_read_from_the_file_alone(beginnings: Beginnings) -> None:
    beginnings.note_each([("one", 1), ("two words", 12)])

    assert read_beginnings(beginnings.file) == [Begun("one", 1), Begun("two words", 12)]


def test_the_latest_are_kept_and_nothing_is_made_up_where_the_ring_closes(beginnings: Beginnings) -> None:
    names = [f"{number:036}" for number in range(5_000)]

    for first in range(0, len(names), 7):
        beginnings.note_each([(name, 1) for name in names[first : first + 7]])

    found = read_beginnings(beginnings.file)
    assert set(names[-1_000:]) <= {begun.id for begun in found}
    assert sum(begun.id in names for begun in found) >= len(found) - 1
    assert len(found) * 39 <= SIZE


def test_a_name_that_is_too_long_is_left_out(beginnings: Beginnings) -> None:
    beginnings.note_each([("x" * SIZE, 1), ("y", 1)])

    assert read_beginnings(beginnings.file) == [Begun("y", 1)]


def test_garbage_is_no_beginning(beginnings: Beginnings) -> None:
    os.pwrite(beginnings.file, b"\xff 1 x\n\nnonsense\n 3\n", 0)

    assert read_beginnings(beginnings.file) == []
