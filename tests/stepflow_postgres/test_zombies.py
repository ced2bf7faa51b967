"""Engines of real processes that are stopped at any instant, replaced, and go on."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
import writer_process
from anyio.to_thread import run_sync

from stepflow.records import Lease, RunChange, RunId, RunRecord, RunStatus
from stepflow.testing.suites.writes import enter, entries, write
from stepflow_postgres import owners as module
from stepflow_postgres.backend import PostgresBackend

pytestmark = pytest.mark.anyio

TAKER = "engine-2"
PATIENCE_S = 60.0
EXPIRE = "UPDATE stepflow._engines SET expires_at = clock_timestamp() - INTERVAL '1 s' WHERE owner = %(owner)s"
OWNED = "SELECT count(*) FROM stepflow._runs WHERE owner = %(owner)s"


class WriterProcess:
    def __init__(self, url: str, ledger: Path) -> None:
        self._ledger = ledger
        self._process = subprocess.Popen(
            [sys.executable, writer_process.__file__, url, str(ledger)], stdout=subprocess.PIPE, text=True
        )

    async def line(self) -> str:
        assert self._process.stdout is not None
        with anyio.fail_after(PATIENCE_S):
            return (await run_sync(self._process.stdout.readline, abandon_on_cancel=True)).strip()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def taken(self) -> set[tuple[RunId, int]]:
        """The writes that the store told this process it had taken."""
        lines = [line.split() for line in self._ledger.read_text().splitlines()]
        return {(run_id, int(position)) for run_id, position in lines}

    def close(self) -> None:
        self._process.kill()
        self._process.wait(240)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
async def store(backend: PostgresBackend) -> AsyncIterator[PostgresBackend]:
    async with backend:
        await enter(backend, TAKER)
        yield backend


@pytest.fixture
def writer(empty_postgres_url: str, store: PostgresBackend, tmp_path: Path) -> Iterator[WriterProcess]:
    process = WriterProcess(empty_postgres_url, tmp_path / "ledger")
    yield process
    process.close()


async def take_all(store: PostgresBackend, owner: str) -> dict[RunId, tuple[RunRecord, Lease]]:
    """Claim every run of an engine that died, as soon as that can be done."""
    await store.database.write_sql(store.database.sql(EXPIRE), {"owner": owner})
    taken: dict[RunId, tuple[RunRecord, Lease]] = {}
    with anyio.fail_after(PATIENCE_S):
        while (await store.database.ask_sql(store.database.sql(OWNED), {"owner": owner}))[0][0]:
            taken |= {record.id: (record, lease) for record, lease in await store.owners.claim(TAKER)}
    return taken


async def stored(store: PostgresBackend, taken: dict[RunId, tuple[RunRecord, Lease]]) -> dict[RunId, list[int]]:
    return {run_id: [position for position, _ in await entries(store, run_id)] for run_id in taken}


async def replace(store: PostgresBackend, writer: WriterProcess, instant_s: float) -> None:
    """Stop the writer so many seconds after it entered, take its runs, and let it go on: it writes nothing more."""
    word, owner = (await writer.line()).split()
    assert word == "entered"
    await anyio.sleep(instant_s)
    writer.stop()

    taken = await take_all(store, owner)
    before = await stored(store, taken)
    writer.go_on()
    assert await writer.line() == f"lost {owner}"

    after = await stored(store, taken)
    assert after == before
    assert all(positions == list(range(1, len(positions) + 1)) for positions in after.values())
    told = {(run_id, position) for run_id, position in writer.taken() if run_id in taken}
    assert told <= {(run_id, position) for run_id, positions in after.items() for position in positions}
    ends = RunChange(status=RunStatus.CANCELLED, ended_at=9.0)
    await store.journal.commit(
        [
            write(run_id, len(after[run_id]) + 1, ["ended"], lease=lease, change=ends)
            for run_id, (_, lease) in taken.items()
        ]
    )


@pytest.mark.parametrize("instants", [4, pytest.param(50, marks=pytest.mark.slow)])
async def test_an_engine_that_was_stopped_at_any_instant_writes_nothing_once_it_was_replaced(
    store: PostgresBackend, writer: WriterProcess, instants: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    chance = random.Random(7)

    for _ in range(instants):
        await replace(store, writer, chance.uniform(0, 0.3))

    assert writer.taken()
