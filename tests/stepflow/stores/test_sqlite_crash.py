"""A process that is killed while it writes leaves whole commits, and all that it was told are durable."""

import random
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from stepflow.records import Entries, RunId
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.suites.writes import Ids, begin, entries, record

WRITER = """
import anyio, sys
from stepflow.records import RunChange
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.suites.writes import result, write

async def main(path, synchronous):
    async with SqliteBackend(path, synchronous=synchronous) as store:
        claimed = await store.owners.claim("writer")
        at = sum(row.count for row in await store.journal.history(claimed[0][0].id, limit=1_000_000))
        while True:
            await store.journal.commit(
                [
                    write(
                        run.id, at + 1, ["x" * size, "y"], lease=lease,
                        results=[result(at + 1), result(at)], change=RunChange(succeeded=at + 1),
                        items=(at, at + 1), is_checkpoint=at % 50 == 1,
                    )
                    for (run, lease), size in zip(claimed, (10, 5_000, 300))
                ]
            )
            at += 2
            print(at, flush=True)

anyio.run(main, *sys.argv[1:])
"""


async def _begin(path: Path) -> list[RunId]:
    ids = Ids()
    async with SqliteBackend(path) as store:
        return [await begin(store, record(ids.draw())) for _ in range(3)]


def _write_until_killed(path: Path, commits: int, synchronous: str) -> int:
    """The last position that the writer was told is durable. It is killed while the next commits go on."""
    told = 0
    command = [sys.executable, "-c", WRITER, str(path), synchronous]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(commits):
            told = int(writer.stdout.readline())
        writer.kill()
        rest = writer.stdout.read().splitlines(keepends=True)
    return int(rest[-1]) if rest and rest[-1].endswith("\n") else told


async def _stored(path: Path, runs: Sequence[RunId]) -> list[tuple[list[int], list[int], int | None]]:
    """Of each run: the positions, the items with results in the order they came, and the count in its row."""
    found: list[tuple[list[int], list[int], int | None]] = []
    async with SqliteBackend(path) as store:
        for run in runs:
            positions = [at for row in await store.journal.history(run, limit=10**6) for at in _span(row)]
            done = await store.runs.completed(run, limit=10**6)
            assert [place for place, _ in done] == list(range(1, len(done) + 1))
            row = await store.runs.get(run)
            assert row is not None
            assert len(await entries(store, run)) <= len(positions)
            found.append((positions, [one.index for _, one in done], row.succeeded))
    return found


def _span(row: Entries) -> range:
    return range(row.first, row.first + row.count)


@pytest.mark.parametrize(
    ("synchronous", "kills"),
    [
        ("FULL", 2),
        ("NORMAL", 1),
        pytest.param("FULL", 7, marks=pytest.mark.slow),
        pytest.param("NORMAL", 7, marks=pytest.mark.slow),
    ],
)
def test_a_killed_writer_leaves_whole_commits(tmp_path: Path, synchronous: str, kills: int) -> None:
    path = tmp_path / "runs.db"
    runs = anyio.run(_begin, path)
    draw = random.Random(11)

    for _ in range(kills):
        told = _write_until_killed(path, draw.randint(1, 60), synchronous)
        with closing(sqlite3.connect(path)) as conn:
            assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        stored = anyio.run(_stored, path, runs)

        positions, items, succeeded = stored[0]
        last = positions[-1]
        assert stored == [stored[0]] * 3
        assert told <= last
        assert positions == list(range(1, last + 1))
        assert sorted(items) == list(range(1, last))
        assert succeeded == last - 1
