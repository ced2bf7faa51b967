"""One engine a file, and what goes wrong with files."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from stepflow.errors import StoreError, StoreInUseError, StoreUnavailableError
from stepflow.records import Committed, EngineRecord, RunChange, RunStatus
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.stores.sqlite.schema import APPLICATION_ID, MIGRATIONS, migrations
from stepflow.testing.suites.writes import Ids, begin, entries, record, result, write

pytestmark = pytest.mark.anyio

HOLDER = """
import anyio, sys
from stepflow.stores.sqlite.backend import SqliteBackend

async def hold():
    async with SqliteBackend(sys.argv[1]):
        print("open", flush=True)
        sys.stdin.read()

anyio.run(hold)
"""


class TurnedClock:
    """Sleeps by counting, and tells of each sleep."""

    def __init__(self, on_sleep: object = None) -> None:
        self.slept: list[float] = []
        self.time = 1_000_000.0
        self.on_sleep = on_sleep

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if callable(self.on_sleep):
            self.on_sleep(len(self.slept))


@contextmanager
def _other_process(path: Path) -> Iterator[int]:
    """Another process that has the store open, by its id."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        yield holder.pid
        holder.communicate("", timeout=240)


async def test_a_second_engine_is_refused_by_the_pid_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    with _other_process(path) as pid:
        with pytest.raises(StoreInUseError, match=rf"used by process {pid}\b.*PostgreSQL") as refused:
            async with SqliteBackend(path):
                pass
        assert refused.value.pid == pid
    async with SqliteBackend(path) as backend:
        assert await backend.runs.list() == []


async def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()

    async with SqliteBackend(path) as backend:
        assert await backend.runs.list() == []


async def test_a_second_engine_of_the_same_process_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "runs.db")

    async with SqliteBackend(tmp_path / "runs.db"):
        with pytest.raises(StoreError, match="used by this process already"):
            async with SqliteBackend(tmp_path / "link.db"):
                pass


async def test_a_closed_store_leaves_one_file_and_can_be_opened_again(tmp_path: Path, anyio_backend: str) -> None:
    backend = SqliteBackend(tmp_path / "runs.db")
    async with backend:
        run = await begin(backend, record(Ids().draw()))
    left = os.listdir(tmp_path)

    async with backend:
        found = await entries(backend, run)

    assert left == ["runs.db"]
    assert found == [(1, "begun")]
    with pytest.raises(StoreError, match="not open"):
        await backend.runs.list()


async def test_a_store_that_is_opened_again_goes_on_after_what_others_wrote(tmp_path: Path) -> None:
    backend, ids = SqliteBackend(tmp_path / "runs.db"), Ids()
    async with backend:
        runs = [await begin(backend, record(ids.draw()))]
    async with SqliteBackend(tmp_path / "runs.db") as other:
        runs += [await begin(other, record(ids.draw())) for _ in range(3)]

    async with backend:
        runs.append(await begin(backend, record(ids.draw())))

        assert [await entries(backend, run) for run in runs] == [[(1, "begun")]] * 5


async def test_others_read_while_the_engine_writes(tmp_path: Path) -> None:
    ids = Ids()
    async with SqliteBackend(tmp_path / "runs.db") as engine, SqliteBackend.reader(tmp_path / "runs.db") as reader:
        run = await begin(engine, record(ids.draw()))
        await engine.journal.commit([write(run, 2, ["a"], results=[result(0, "x")])])

        assert [one.id for one in await reader.runs.list()] == [run]
        assert await entries(reader, run) == [(1, "begun"), (2, "a")]
        assert list(await reader.runs.results(run)) == [result(0, "x")]


async def test_what_only_an_engine_may_write_is_refused_to_a_reader(tmp_path: Path) -> None:
    async with SqliteBackend(tmp_path / "runs.db") as engine, SqliteBackend.reader(tmp_path / "runs.db") as reader:
        run = await begin(engine, record(Ids().draw()))

        for writing in (
            reader.journal.commit([write(run, 2, ["b"])]),
            reader.owners.enter(EngineRecord(owner="o", name="n"), ttl_s=6),
            reader.owners.claim("o"),
            reader.blobs.put(b"new"),
        ):
            with pytest.raises(StoreError, match="open for looking only.*through its engine"):
                await writing
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.database.execute("DELETE FROM _runs")

        assert await entries(reader, run) == [(1, "begun")]


async def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        async with SqliteBackend.reader(tmp_path / "runs.db"):
            pass

    assert os.listdir(tmp_path) == []


async def test_a_file_that_is_locked_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteBackend(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        def end_at_third(sleep: int) -> None:
            if sleep == 3:
                other.execute("COMMIT")

        clock = TurnedClock(end_at_third)
        async with SqliteBackend(path, clock=clock) as backend:  # type: ignore[arg-type]
            other.execute("BEGIN IMMEDIATE")
            run = await begin(backend, record(Ids().draw()))

            assert await entries(backend, run) == [(1, "begun")]
    assert len(clock.slept) == 3


async def test_a_file_that_stays_locked_makes_the_store_unavailable_and_the_same_write_can_be_repeated(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    async with SqliteBackend(path, clock=TurnedClock()) as backend:  # type: ignore[arg-type]
        opening = write((run := Ids().draw()), 1, ["begun"], new=record(run))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            with pytest.raises(StoreUnavailableError, match="locked"):
                await backend.journal.commit([opening])

        assert await backend.runs.list() == []
        assert list(await backend.journal.commit([opening])) == [Committed()]


async def test_a_full_disk_is_said_and_nothing_of_the_commit_is_there(tmp_path: Path) -> None:
    ids = Ids()
    async with SqliteBackend(tmp_path / "runs.db") as backend:
        run = await begin(backend, record(ids.draw()))
        conn = backend.database.conn
        pages = conn.execute("PRAGMA page_count").fetchone()[0]
        conn.execute(f"PRAGMA max_page_count = {pages + 3}")
        other = ids.draw()
        small = write(other, 1, ["begun"], new=record(other))
        large = write(
            run, 2, ["x" * 100_000], results=[result(0)], change=RunChange(status=RunStatus.COMPLETED, succeeded=1)
        )

        with pytest.raises(StoreError, match="disk is full.*free some space"):
            await backend.journal.commit([small, large])

        stored = await backend.runs.get(run)
        assert stored is not None
        assert (stored.status, stored.succeeded) == (RunStatus.RUNNING, 0)
        assert await backend.runs.get(other) is None
        assert await entries(backend, run) == [(1, "begun")]
        conn.execute("PRAGMA max_page_count = 1000000")
        assert list(await backend.journal.commit([small, large])) == [Committed(), Committed()]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"These are notes, and by no means a database. " * 50, "not a SQLite database"), (None, "not a store of runs")],
)
async def test_a_file_of_something_else_is_refused_and_left_as_it_is(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "mine.db"
    if content is None:
        with closing(sqlite3.connect(path)) as mine:
            mine.execute("CREATE TABLE runs (id TEXT)")
    else:
        path.write_bytes(content)
    before = path.read_bytes()

    with pytest.raises(StoreError, match=message):
        async with SqliteBackend(path):
            pass

    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["mine.db"]


async def test_a_store_of_a_newer_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteBackend(path):
        pass
    with closing(sqlite3.connect(path)) as newer, newer:
        newer.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('stepflow', '0099_colours')")

    for backend in (SqliteBackend(path), SqliteBackend.reader(path)):
        with pytest.raises(StoreError, match="newer version.*0099_colours.*--upgrade stepflow-engine"):
            async with backend:
                pass


async def test_a_store_whose_making_was_cut_off_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as cut:
        cut.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    async with SqliteBackend(path) as backend:
        run = await begin(backend, record(Ids().draw()))

        assert await entries(backend, run) == [(1, "begun")]


async def test_a_damaged_file_is_an_error_and_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteBackend(path) as backend:
        run = await begin(backend, record(Ids().draw()))
        root = backend.database.execute("SELECT rootpage FROM sqlite_master WHERE name = '_entries'").fetchone()[0]
        size = backend.database.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)

    async with SqliteBackend(path) as backend:
        with pytest.raises(StoreError, match="damaged; restore it"):
            await backend.journal.read(run)


async def test_an_open_store_is_not_opened_again(tmp_path: Path) -> None:
    async with SqliteBackend(tmp_path / "runs.db") as backend:
        with pytest.raises(StoreError, match="open already"):
            await backend.__aenter__()

        assert await backend.runs.list() == []


async def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No such file or directory.*folder exists"):
        async with SqliteBackend(tmp_path / "nowhere" / "runs.db"):
            pass


async def test_a_folder_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()

    with pytest.raises(StoreError, match="cannot be opened"):
        async with SqliteBackend(tmp_path / "runs"):
            pass


async def test_commits_are_on_the_disk_unless_told_otherwise(tmp_path: Path) -> None:
    levels = []
    for backend in (SqliteBackend(tmp_path / "full.db"), SqliteBackend(tmp_path / "normal.db", synchronous="NORMAL")):
        async with backend:
            conn = backend.database.conn
            levels += [conn.execute(f"PRAGMA {what}").fetchone()[0] for what in ("synchronous", "journal_mode")]

    assert levels == [2, "wal", 1, "wal"]
    with pytest.raises(StoreError, match="neither FULL nor NORMAL"):
        SqliteBackend(tmp_path / "off.db", synchronous="OFF")  # type: ignore[arg-type]


def test_every_migration_is_known_by_name() -> None:
    from sqlite_utils import Database

    with closing(sqlite3.connect(":memory:")) as conn:
        pending = migrations.pending(Database(conn))

    assert tuple(migration.name for migration in pending) == MIGRATIONS


def test_importing_the_package_does_not_reach_sqlite() -> None:
    program = "import sys, stepflow; stepflow.Engine, stepflow.SyncEngine; print('sqlite3' in sys.modules)"

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240
    ).stdout

    assert said == "False\n"
