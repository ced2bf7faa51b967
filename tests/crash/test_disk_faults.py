"""Faults of the file under the engine: each is a clear error or harmless, and nothing wrong is ever told."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import StoreError
from stepflow.records import Entries, ItemResult, Json, RunId, RunStatus
from stepflow.stores.sqlite import file
from stepflow.stores.sqlite.backend import SqliteBackend

pytestmark = pytest.mark.anyio

ITEMS = 60
FLIPS = 150
FLOW = {
    "steps": [
        {"id": "a", "component": "/tell", "input": {"$input": "$"}},
        {"id": "b", "component": "/tell", "input": {"$step": "a"}},
    ],
    "output": {"$step": "b"},
}


def _components() -> Components:
    app = Components()

    @app.component("/tell")
    async def tell(input: Json) -> Json:
        return f"{input} told"

    return app


OUTPUTS: list[Json] = [f"{item} told told" for item in range(ITEMS)]


async def _ended(path: Path) -> RunId:
    async with Engine(_components(), store=path) as engine:
        run = await engine.submit(FLOW, list(range(ITEMS)), max_concurrency=5)
        await run.wait()
        return run.id


@contextmanager
def _stranger() -> Iterator[None]:
    """Without the rights of root, to whom every file can be written."""
    if os.geteuid():
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared_folder(tmp_path: Path) -> Path:
    """A folder that everybody may go to."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o005:
            folder.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="rights are those of Unix")
async def test_a_file_that_cannot_be_written_is_refused_at_once_and_can_be_read(shared_folder: Path) -> None:
    path = shared_folder / "runs.db"
    run = await _ended(path)
    path.chmod(0o444)
    shared_folder.chmod(0o777)

    with _stranger():
        with pytest.raises(StoreError, match="cannot be written; give the user of this process the right"):
            async with SqliteBackend(path):
                pass
        async with SqliteBackend.reader(path) as reader:
            found = await reader.runs.get(run)
            with pytest.raises(StoreError, match="cannot be written; give the user of this process the right"):
                await reader.retention.delete(run)

    assert found is not None
    assert found.status is RunStatus.COMPLETED


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="rights are those of Unix")
async def test_a_folder_that_cannot_be_written_is_refused_with_the_remedy(shared_folder: Path) -> None:
    await _ended(shared_folder / "runs.db")
    shared_folder.chmod(0o555)

    with _stranger(), pytest.raises(StoreError, match="see that its folder exists and may be written to"):
        async with SqliteBackend(shared_folder / "runs.db"):
            pass

    shared_folder.chmod(0o755)
    assert (shared_folder / "runs.db").exists()


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    shutil.copy(path, copy := path.with_suffix(".copy"))
    copy.replace(path)


def _delete_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


@pytest.mark.skipif(os.name == "nt", reason="there an open file can't be deleted")
@pytest.mark.parametrize("harm", [_delete, _replace, _delete_log])
async def test_an_engine_whose_file_is_deleted_stops_with_an_error_and_tells_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(file, "CHECK_S", 0.0)
    told: list[Json] = []
    blocked = anyio.Event()
    app = Components()

    @app.component("/tell")
    async def tell(input: Json) -> Json:
        if input == 7:
            await blocked.wait()
        return input

    async def run_and_harm() -> None:
        async with Engine(app, store=tmp_path / "runs.db", max_concurrency=1) as engine:
            run = await engine.submit(FLOW, list(range(ITEMS)))
            async for result in run.results():
                told.append(result.output)
                if result.index == 6:
                    harm(tmp_path / "runs.db")
                    blocked.set()

    with pytest.raises(StoreError, match="deleted or replaced while the store was open"):
        await run_and_harm()

    assert told == list(range(7))


@pytest.mark.skipif(os.name == "nt", reason="there an open file can't be deleted")
async def test_an_engine_that_wrote_no_more_after_its_file_was_deleted_says_so_at_the_end(tmp_path: Path) -> None:
    async def run_and_harm() -> None:
        async with Engine(_components(), store=tmp_path / "runs.db") as engine:
            await engine.run(FLOW, "said")
            _delete(tmp_path / "runs.db")

    with pytest.raises(StoreError, match="deleted or replaced while the store was open"):
        await run_and_harm()

    assert not (tmp_path / "runs.db").exists()


async def _halfway(folder: Path, draw: random.Random) -> list[Path]:
    """Copies of the file and its log as a kill leaves them, taken while a run goes on."""
    path = folder / "runs.db"
    async with Engine(_components(), store=path) as engine:
        run = await engine.submit(FLOW, list(range(ITEMS)), max_concurrency=2)
        return [
            _copied(path, folder / f"copy-{result.index}")
            async for result in run.results()
            if draw.random() < 0.1 or result.index == ITEMS // 2
        ]


def _copied(path: Path, into: Path) -> Path:
    into.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", into)
    return into / path.name


async def _finished(path: Path) -> list[Json] | None:
    """The outputs of the run after its recovery; None: nothing is known of it."""
    async with Engine(_components(), store=path) as engine:
        with closing(sqlite3.connect(path)) as conn:
            assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        runs = await engine.list_runs()
        if not runs:
            return None
        run = await engine.get_run(runs[0].id)
        await run.wait()
        return [result.output async for result in run.results()]


@pytest.mark.parametrize("seed", range(3))
async def test_a_log_that_was_cut_off_gives_an_earlier_state_from_which_the_run_is_finished(
    tmp_path: Path, seed: int
) -> None:
    draw, found = random.Random(seed), []

    for path in await _halfway(tmp_path, draw):
        log = path.with_name(path.name + "-wal")
        size = log.stat().st_size
        os.truncate(log, draw.choice((0, draw.randrange(size), max(0, size - draw.randrange(5_000)))))
        found.append(await _finished(path))

    assert OUTPUTS in found
    assert [outputs for outputs in found if outputs not in (OUTPUTS, None)] == []


@pytest.mark.parametrize("seed", range(3))
async def test_a_flipped_bit_in_the_log_gives_an_earlier_state_from_which_the_run_is_finished(
    tmp_path: Path, seed: int
) -> None:
    draw, found = random.Random(seed), []

    for path in await _halfway(tmp_path, draw):
        log = path.with_name(path.name + "-wal")
        _flip(log, draw.randrange(log.stat().st_size), draw.randrange(8))
        found.append(await _finished(path))

    assert OUTPUTS in found
    assert [outputs for outputs in found if outputs not in (OUTPUTS, None)] == []


def _flip(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def _pages(path: Path) -> list[tuple[int, int]]:
    """Where the journal, the results and the blobs stand in the file."""
    asked = "SELECT pgoffset, pgsize FROM dbstat WHERE name IN ('_entries', '_results', '_blobs')"
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(asked).fetchall()


async def _told(store: SqliteBackend, run: RunId, flow: str) -> tuple[list[Entries], list[ItemResult], bytes]:
    blob = await store.blobs.get(flow)
    assert blob is not None
    return list(await store.journal.history(run)), list(await store.runs.results(run)), blob.content


async def test_a_flipped_bit_is_an_error_and_no_answer(tmp_path: Path) -> None:
    path, draw = tmp_path / "runs.db", random.Random(5)
    run = await _ended(path)
    async with SqliteBackend(path) as store:
        flow = (await store.runs.list())[0].flow_id
        truth = await _told(store, run, flow)
    errors, pages = [], _pages(path)

    for number in range(FLIPS):
        offset, size = draw.choice(pages)
        copy = tmp_path / f"{number}.db"
        shutil.copy(path, copy)
        _flip(copy, offset + draw.randrange(size), draw.randrange(8))
        try:
            async with SqliteBackend(copy) as store:
                assert await _told(store, run, flow) == truth
        except StoreError as error:
            errors.append(str(error))
        copy.unlink()

    assert len(errors) > FLIPS // 10
    assert [error for error in errors if "damaged" not in error] == []


async def test_no_run_goes_on_from_a_damaged_journal(tmp_path: Path) -> None:
    [path, *_] = await _halfway(tmp_path, random.Random(2))
    async with SqliteBackend.reader(path) as before:
        [run] = await before.runs.list()
        results = list(await before.runs.results(run.id))
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("UPDATE _entries SET payload = CAST(replace(CAST(payload AS TEXT), 'told', 'tond') AS BLOB)")
        conn.commit()

    with suppress(StoreError):
        async with Engine(_components(), store=path) as engine:
            await (await engine.get_run(run.id)).wait()

    async with SqliteBackend.reader(path) as after:
        found = await after.runs.get(run.id)
        assert found is not None
        assert found.status in (RunStatus.RUNNING, RunStatus.RECOVERY_FAILED)
        assert list(await after.runs.results(run.id)) == results
        with pytest.raises(StoreError, match="journal is not what was written; the file is damaged: restore it"):
            await after.journal.read(run.id)
