"""The lock beside a database."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stepflow.errors import StoreError
from stepflow.stores.sqlite.lock import FileLock


def test_only_one_has_the_lock_while_many_take_it_and_remove_its_file(tmp_path: Path) -> None:
    inside: list[int] = []
    taken: list[int] = []

    def contend(name: int) -> bool:
        lock = FileLock(tmp_path / "runs.db")
        for _ in range(500):
            try:
                lock.acquire()
            except StoreError:
                continue
            inside.append(name)
            alone = inside == [name]
            inside.remove(name)
            taken.append(name)
            lock.release()
            if not alone:
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        always_alone = list(threads.map(contend, range(4)))

    assert always_alone == [True] * 4
    assert taken
    assert list(tmp_path.iterdir()) == []


def test_a_refused_lock_does_not_touch_the_name_of_its_holder(tmp_path: Path) -> None:
    holder, other = FileLock(tmp_path / "runs.db"), FileLock(tmp_path / "runs.db")
    holder.acquire()
    before = (tmp_path / "runs.db-lock").read_bytes()

    for _ in range(2):
        with pytest.raises(StoreError, match="used by this process already"):
            other.acquire()
        other.release()

    assert (tmp_path / "runs.db-lock").read_bytes() == before
    holder.release()
    other.acquire()
    other.release()


def test_what_another_program_wrote_into_the_lock_is_not_taken_for_a_process(tmp_path: Path) -> None:
    holder, other = FileLock(tmp_path / "runs.db"), FileLock(tmp_path / "runs.db")
    holder.acquire()
    (tmp_path / "runs.db-lock").write_text("notes")

    with pytest.raises(StoreError, match="used by another process,"):
        other.acquire()

    holder.release()
