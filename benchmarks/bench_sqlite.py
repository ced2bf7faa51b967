"""How near does the SQLite store come to bare SQLite, and how large is a step on the disk?

Both commit the same number of facts in groups; the bare loop writes one small row for each into one table, with the
same durability. The last line of the output is one JSON object.
"""

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import msgspec

import stepflow
from stepflow.clock import SystemChance
from stepflow.execution.events import StepStarted, StepSucceeded, encode_events
from stepflow.records import ItemResult, Lease, RunRecord, Succeeded, Write
from stepflow.stores.sqlite.backend import SqliteBackend

STEPS = 3
LEASE = Lease("bench", 1)


def bare(folder: Path, group: int, groups: int) -> float:
    """Rows a second of plain SQLite, `group` rows a commit."""
    row = msgspec.json.encode(StepSucceeded(12_345, 1, {"n": 12_345}, 1_234))
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("CREATE TABLE entries (run INTEGER, position INTEGER, payload BLOB, PRIMARY KEY (run, position))")
        started = time.perf_counter()
        for number in range(groups):
            conn.execute("BEGIN IMMEDIATE")
            first = number * group
            conn.executemany("INSERT INTO entries VALUES (1, ?, ?)", [(first + n, row) for n in range(group)])
            conn.execute("COMMIT")
        return group * groups / (time.perf_counter() - started)


def _write(run_id: str, first: int, steps: int) -> Write:
    """The part of a commit in which so many steps of a batch began or ended."""
    item = first // (2 * STEPS)
    events = [
        event
        for n in range(steps)
        for event in (StepStarted(item, n % STEPS, 1, first), StepSucceeded(item, n % STEPS, {"n": 12_345}, first))
    ]
    results = [ItemResult(item + n, Succeeded({"n": 12_345})) for n in range(steps // STEPS)]
    return Write(
        run_id=run_id,
        lease=LEASE,
        first=first,
        count=len(events),
        payload=encode_events(events),
        min_item=item,
        max_item=item + steps // STEPS,
        results=results,
    )


async def store(folder: Path, group: int, groups: int) -> float:
    """Steps a second of the store, `group` steps a commit, their events encoded in the loop."""
    run_id = SystemChance().run_id(time.time())
    new = RunRecord(id=run_id, root_id=run_id, flow_id="f" * 64)
    async with SqliteBackend(folder / "store.db") as backend:
        await backend.journal.commit([Write(run_id=run_id, lease=LEASE, first=1, count=1, payload=b'["run"]', new=new)])
        started = time.perf_counter()
        for number in range(groups):
            await backend.journal.commit([_write(run_id, 2 + number * 2 * group, group)])
        return group * groups / (time.perf_counter() - started)


async def batch(folder: Path, items: int) -> tuple[float, float]:
    """Steps a second of a whole batch through an engine, and what a step takes on the disk, in bytes."""
    app = stepflow.Components()

    @app.component("/noop")
    async def noop(input: dict[str, int]) -> dict[str, int]:
        return input

    steps = [
        {"id": f"s{n}", "component": "/noop", "input": {"$step": f"s{n - 1}"} if n else {"$input": "$"}}
        for n in range(STEPS)
    ]
    flow = stepflow.read_flow({"steps": steps, "output": {"$step": f"s{STEPS - 1}"}})
    path = folder / "batch.db"
    async with stepflow.Engine(app, store=SqliteBackend(path), max_concurrency=100) as engine:
        await engine.run(flow, {"n": 0})
        started = time.perf_counter()
        run = await engine.submit(flow, [{"n": n} for n in range(items)])
        done = [one async for one in run.results()]
        took = time.perf_counter() - started
    assert len(done) == items
    return STEPS * items / took, path.stat().st_size / (STEPS * items)


def median(repeats: int, measure: Callable[[Path], float]) -> float:
    figures = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            figures.append(measure(Path(folder)))
    return statistics.median(figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--groups", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    groups, repeats = asked.groups, asked.repeats
    found = {}
    for group in (1, 100, 1_000):
        found[f"bare_{group}_per_s"] = median(repeats, lambda folder: bare(folder, group, groups))  # noqa: B023
        found[f"store_{group}_per_s"] = median(repeats, lambda folder: anyio.run(store, folder, group, groups))  # noqa: B023
    batches = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            batches.append(anyio.run(batch, Path(folder), asked.items))
    found["batch_steps_per_s"], found["bytes_per_step"] = (
        statistics.median(steps) for steps in zip(*batches, strict=True)
    )
    print(json.dumps({name: round(value, 1) for name, value in found.items()}))


if __name__ == "__main__":
    main()
