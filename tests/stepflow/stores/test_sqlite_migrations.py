"""A file that an older version made is brought up to date, and what was in it goes on."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import StoreError
from stepflow.records import RunStatus
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.suites.writes import Ids, begin, record

pytestmark = pytest.mark.anyio

WITHOUT_OWNERS = Path(__file__).parents[2] / "data" / "stores" / "sqlite_0002.sql"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file whose engine was killed: its first run had failed for one item, its second was under way."""
    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(WITHOUT_OWNERS.read_text(encoding="utf-8"))
    return tmp_path / "old.db"


def _shout() -> Components:
    app = Components()

    @app.component("/shout")
    async def shout(input: str) -> str:
        return input.upper()

    return app


async def test_a_reader_leaves_an_older_file_to_an_engine(path: Path) -> None:
    before = path.read_bytes()

    with pytest.raises(StoreError, match="an older version.*an engine that opens it brings it up to date"):
        async with SqliteBackend.reader(path):
            pass

    assert path.read_bytes() == before


async def test_what_was_under_way_in_an_older_file_is_finished(path: Path) -> None:
    async with Engine(_shout(), store=path) as engine:
        second, first = await engine.list_runs()
        run = await engine.get_run(second.id)
        await run.wait()
        outputs = [result.output async for result in run.results()]

    assert (first.key, first.status, first.succeeded, first.failed) == ("first", RunStatus.FAILED, 1, 1)
    assert (second.key, second.group, second.journal_format) == ("second", "default", 1)
    assert outputs == ["HI", "HANG", "HO"]


async def test_an_older_file_gets_the_tables_indexes_and_views_of_a_new_one(path: Path, tmp_path: Path) -> None:
    async with SqliteBackend(path) as old, SqliteBackend(tmp_path / "new.db") as new:
        made = [
            {
                (item.name, tuple(column.name for column in item.columns))
                for item in (*store.database.tables, *store.database.views)
                if not item.name.startswith("sqlite_")
            }
            | set(store.database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'").fetchall())
            for store in (old, new)
        ]

    assert made[0] == made[1]


async def test_rows_of_an_older_version_are_read_beside_new_ones(path: Path) -> None:
    async with SqliteBackend(path) as store:
        new = await begin(store, record(Ids().draw(), key="first"), supersedes=(await store.runs.list())[-1].id)
        old = (await store.runs.list())[0].id
        rows = await store.journal.history(old)
        results = await store.runs.results(old)
        shown = list(store.database.query("SELECT * FROM attempts WHERE run_id = ?", [old]))

        assert [row.first for row in rows] == [1, 2, 3, 4, 7, 12]
        assert [(one.index, one.output) for one in results] == [(0, "HI"), (2, "HO")]
        assert {(row["item"], row["step"]): row["status"] for row in shown}[1, 0] == "running"
        assert {row["recording_ms"] for row in shown} == {None}
        assert (await store.runs.find_key("first")) == await store.runs.get(new)


async def test_bringing_a_file_up_to_date_can_be_cut_off_and_repeated(path: Path) -> None:
    with closing(sqlite3.connect(path)) as cut:
        cut.execute("CREATE TABLE _deleted (in_the_way)")
    with pytest.raises(StoreError, match="already exists"):
        async with SqliteBackend(path):
            pass
    with closing(sqlite3.connect(path)) as cut:
        columns = [row[1] for row in cut.execute("PRAGMA table_info(_runs)")]
        cut.execute("DROP TABLE _deleted")

    async with SqliteBackend(path) as store:
        found = [run.key for run in await store.runs.list()]

    assert "group_name" not in columns
    assert found == ["second", "first"]
