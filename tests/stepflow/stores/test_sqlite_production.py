"""A service on one file and one volume: killed and started under load, looked at and backed up all the while."""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from stepflow.errors import StoreError
from stepflow.records import ItemResult, RunId, RunStatus
from stepflow.stores.sqlite.backend import SqliteBackend

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LOOP = Path(__file__).parents[2] / "crash" / "loop.py"
MINUTES = 0.5


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _look(path: Path, seen: dict[RunId, list[ItemResult]]) -> None:
    """Hold what a reader is told of completed runs against what it was told before."""
    async with SqliteBackend.reader(path) as reader:
        for run in await reader.runs.list(status=RunStatus.COMPLETED, limit=20):
            results = list(await reader.runs.results(run.id))
            assert len(results) == run.total
            assert seen.setdefault(run.id, results) == results


def _back_up(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    with closing(sqlite3.connect(copy)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_nothing_is_lost_of_a_service_that_is_killed_under_load_while_others_look_and_copy(
    tmp_path: Path,
) -> None:
    path, seen, looks, copies = tmp_path / "loop" / "runs.db", dict[RunId, list[ItemResult]](), 0, 0
    loop = subprocess.Popen(
        [sys.executable, str(LOOP), "--store", "sqlite", "--minutes", str(MINUTES), "--folder", str(tmp_path / "loop")],
        stdout=subprocess.PIPE,
        text=True,
    )
    with loop:
        while loop.poll() is None:
            with suppress(StoreError if not looks else ()):  # the file is not there yet, or not made up yet
                await _look(path, seen)
                looks += 1
            if looks % 5 == 1:
                _back_up(path, copy := tmp_path / f"{copies}.db")
                await _look(copy, dict(seen))
                copies += 1
            await anyio.sleep(0.2)
        assert loop.stdout is not None
        said = loop.stdout.read()

    found = re.search(r"kills=(\d+) lost=(\d+) duplicated=(\d+)", said.splitlines()[-1])
    assert found is not None, said
    assert (found[2], found[3], loop.returncode) == ("0", "0", 0), said
    assert int(found[1]) > 2
    await _look(path, seen)
    assert looks > 10
    assert copies > 2
    assert seen
