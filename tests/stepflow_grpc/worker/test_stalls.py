"""Whose fault a held-up event loop is."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from stepflow_grpc.worker.stalls import HELD_LOOKS, LOOK_S, Thread, TurnCounter, Watch, arranged

T = TypeVar("T")

DUMP = """Timeout (0:00:01.500000)!
Thread 0x00000000000000ab (most recent call first):
  File "a.py", line 1 in slow

Thread 0x00000000000000cd [worker] (most recent call first):
  File "b.py", line 2 in quick
"""
KNOWN = [Thread(0xAB, 11, "one"), Thread(0xCD, 22, "two")]


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    made.close()


@pytest.fixture
def dump(tmp_path: Path) -> Iterator[int]:
    place = tmp_path / "dump"
    place.touch()
    file = os.open(place, os.O_RDWR)
    yield file
    os.close(file)


def elsewhere(work: Callable[[], T]) -> T:
    """What work gives that is done by another thread."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(240)
    return found[0]


def test_the_stack_of_a_loop_without_turns_is_seen_from_another_thread(watch: Watch) -> None:
    watch.turn()

    looks = elsewhere(lambda: [watch.look() for _ in range(5)])

    assert [look is None for look in looks] == [True, True, True, False, False]
    assert looks[-1] is not None
    assert "in elsewhere" in looks[-1]


def test_a_loop_with_turns_has_nothing_to_show(watch: Watch) -> None:
    looks = []
    for _ in range(10):
        watch.turn()
        looks.append(elsewhere(watch.look))

    assert looks == [None] * 10


def test_what_was_dumped_before_is_gone_at_the_next_look(watch: Watch) -> None:
    os.write(watch.file, DUMP.encode())

    watch.look()
    os.write(watch.file, b"new")

    assert os.pread(watch.file, 100, 0) == b"new"


def test_a_loop_is_held_up_after_some_looks_without_a_turn(dump: int) -> None:
    counter = TurnCounter(os.getpid(), dump)

    found = [counter.look(1, "stack", []) for _ in range(HELD_LOOKS + 2)]
    after = counter.look(2, None, [])

    assert [each is None for each in found] == [True] * HELD_LOOKS + [False] * 2
    assert found[-1] is not None
    assert (found[-1].seconds, found[-1].stack) == ((HELD_LOOKS + 1) * LOOK_S, "stack")
    assert after is None


def test_a_process_that_was_stopped_begins_to_count_anew(dump: int) -> None:
    counter = TurnCounter(os.getpid(), dump)
    for _ in range(HELD_LOOKS):
        counter.look(1, None, [])

    counter.forget()

    assert counter.look(1, None, []) is None


def test_a_dump_is_read_where_no_thread_could_tell(dump: int) -> None:
    counter = TurnCounter(os.getpid(), dump)
    for _ in range(HELD_LOOKS):
        counter.look(1, None, KNOWN)

    before = counter.look(1, None, KNOWN)
    os.write(dump, DUMP.encode())
    after = counter.look(1, None, KNOWN)

    assert before is not None
    assert before.stack is None
    assert after is not None
    assert after.stack is not None
    assert "in slow" in after.stack


def test_it_is_said_when_no_stack_can_be_had(dump: int) -> None:
    counter = TurnCounter(os.getpid(), dump)

    found = [counter.look(1, None, []) for _ in range(3 * HELD_LOOKS)]

    assert found[-1] is not None
    assert found[-1].stack == "its stacks could not be taken"


def test_the_thread_that_used_the_processor_is_shown_by_its_name() -> None:
    assert arranged(DUMP, KNOWN, 22) == "held up by thread 'two' is at:\n  File \"b.py\", line 2 in quick"


def test_a_thread_that_began_lately_is_the_one_that_is_not_known() -> None:
    shown = arranged(DUMP, KNOWN[1:], 33)

    assert shown == 'held up by thread 0x00000000000000ab is at:\n  File "a.py", line 1 in slow'


def test_all_threads_are_shown_where_none_used_the_processor() -> None:
    shown = arranged(DUMP, KNOWN, None)

    assert shown.splitlines() == [
        "thread 'one' is at:",
        '  File "a.py", line 1 in slow',
        "thread 'two' is at:",
        '  File "b.py", line 2 in quick',
    ]
