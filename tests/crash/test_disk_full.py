"""A disk that is full holds a run up and harms it not: it goes on when there is room again."""

import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import StoreUnavailableError
from stepflow.records import RunStatus
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.suites.writes import FIRST, Ids, begin, enter, entries, record, write

pytestmark = pytest.mark.anyio

ITEMS = 300
FLOW = {"steps": [{"id": "pad", "component": "/pad", "input": {"$input": "$"}}], "output": {"$step": "pad"}}


class Ledger:
    """The items that a component was called for, in order."""

    def __init__(self) -> None:
        self.called: list[int] = []

    def components(self) -> Components:
        app = Components()

        @app.component("/pad")
        async def pad(input: int) -> str:
            self.called.append(input)
            return f"{input} ".ljust(2_000, "x")

        return app


class Warnings(logging.Handler):
    """Tells when the engine first warned, and what of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self.came = anyio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.came.set()


@pytest.fixture
async def warnings() -> AsyncIterator[Warnings]:
    handler = Warnings()
    logging.getLogger("stepflow").addHandler(handler)
    yield handler
    logging.getLogger("stepflow").removeHandler(handler)


def _fill(backend: SqliteBackend, room: int) -> None:
    """Let the file grow by so many pages and no more, as a disk does that is nearly full."""
    [pages] = backend.database.execute("PRAGMA page_count").fetchone()
    backend.database.execute(f"PRAGMA max_page_count = {pages + room}")


async def test_a_run_waits_while_the_disk_is_full_and_goes_on_when_there_is_room(
    tmp_path: Path, warnings: Warnings
) -> None:
    ledger, backend = Ledger(), SqliteBackend(tmp_path / "runs.db")
    async with Engine(ledger.components(), store=backend, max_concurrency=10) as engine:
        _fill(backend, 60)
        async with anyio.create_task_group() as tasks:

            async def submit() -> None:
                nonlocal run
                run = await engine.submit(FLOW, list(range(ITEMS)))
                await run.wait()

            run = None
            tasks.start_soon(submit)
            with anyio.fail_after(60):
                await warnings.came.wait()
            shown = [one.status for one in await backend.runs.list()]
            stored = sum([len(await backend.runs.results(one.id)) for one in await backend.runs.list()])

            _fill(backend, 1_000_000)
        assert run is not None
        outputs = [result.output async for result in run.results()]
        status = (await engine.get(run.id)).status

    assert "disk is full; free some space" in warnings.texts[0]
    assert shown in ([RunStatus.RUNNING], [])
    assert stored < ITEMS
    assert status is RunStatus.COMPLETED
    assert [str(output).split(" ")[0] for output in outputs] == [str(item) for item in range(ITEMS)]
    assert sorted(ledger.called) == list(range(ITEMS))


async def test_what_was_not_stored_is_not_shown_and_the_same_write_can_be_repeated(tmp_path: Path) -> None:
    async with SqliteBackend(tmp_path / "runs.db") as backend:
        await enter(backend, FIRST.owner)
        run = await begin(backend, record(Ids().draw()))
        _fill(backend, 3)
        large = write(run, 2, ["x" * 100_000])

        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="disk is full; free some space"):
                await backend.journal.commit([large])
        full = await entries(backend, run)
        _fill(backend, 1_000)
        await backend.journal.commit([large])

        assert full == [(1, "begun")]
        assert await entries(backend, run) == [(1, "begun"), (2, "x" * 100_000)]


LIMITED = """
import json, logging, os, resource, sys
import anyio
from stepflow import Components, Engine

limit = int(sys.argv[2])
texts = []

class Lift(logging.Handler):
    def emit(self, record):
        texts.append(record.getMessage())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

logging.getLogger("stepflow").addHandler(Lift())
app = Components()
called = []

@app.component("/pad")
async def pad(input):
    called.append(input)
    return f"{input} ".ljust(2_000, "x")

async def main():
    async with Engine(app, store=sys.argv[1], max_concurrency=10) as engine:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        run = await engine.submit(json.loads(sys.argv[3]), list(range(300)))
        outputs = [result.output async for result in run.results()]
    print(json.dumps({"texts": texts, "called": called, "outputs": [output.split(" ")[0] for output in outputs]}))

anyio.run(main)
"""


def test_a_process_that_may_write_no_more_goes_on_when_it_may(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "runs.db"), "500000", json.dumps(FLOW)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    ).stdout

    found = json.loads(said)
    assert "limits on what this process may write" in found["texts"][0]
    assert sorted(found["called"]) == list(range(ITEMS))
    assert found["outputs"] == [str(item) for item in range(ITEMS)]
