"""Stop the owners of runs in the midst of it, let others take over, and look what they do when they wake up.

Real processes run engines on one PostgreSQL store, under load. At a random instant one is stopped with SIGSTOP, until
others have taken its runs over and ended them; then it goes on with SIGCONT. From there on it may write nothing to
those runs, and begin none of their steps; it has to take its place again as a new owner. The last line says how that
went; the exit code is 1 where a zombie wrote, a step was done again, something was lost, or a takeover took over 10 s.
"""

# ruff: noqa: T201

import argparse
import asyncio
import random
import sys
import time
from typing import Any

import jobs
import msgspec
from ledger import Began, read_ledger
from oracle import Found, judge
from psycopg import AsyncConnection
from stored import read_store
from workers import Place, Worker, WorkerFailedError, crew, place_for

TAKEOVER_S = 10.0
PATIENCE_S = 60.0
"""How long runs may take to end once they were taken over, and a zombie to find out what it is."""

OWNER = "SELECT owner FROM stepflow._engines WHERE name = %s"
OWNED = "SELECT id FROM stepflow._runs WHERE owner = %s AND status = 'running'"
ENDED = "SELECT count(*) FROM stepflow._runs WHERE id = ANY(%s) AND status <> 'running'"
WRITTEN = """
    SELECT run.id, run.owner, run.epoch, run.last, run.status, run.succeeded, run.failed,
        (
            SELECT md5(string_agg(first || ' ' || encode(payload, 'hex'), ' ' ORDER BY first))
            FROM stepflow._entries WHERE run_no = run.no
        ),
        (
            SELECT md5(string_agg(item || ' ' || encode(outcome, 'hex'), ' ' ORDER BY item))
            FROM stepflow._results WHERE run_no = run.no
        )
    FROM stepflow._runs AS run
    WHERE run.id = ANY(%s)
    ORDER BY run.id
"""


class Stop(msgspec.Struct, frozen=True):
    """One time that a worker was stopped."""

    engine: str  # as the ledger calls it
    stopped: float
    woken: float
    runs: list[str]  # that it drove
    takeover_s: float
    written: bool  # whether anything of these runs changed after it woke


class Watcher:
    """Looks into the store from outside."""

    def __init__(self, connection: "AsyncConnection[Any]") -> None:
        self._connection = connection

    async def owner(self, worker: Worker) -> str | None:
        rows = await self._ask(OWNER, f"slot-{worker.slot}")
        return rows[0][0] if rows else None

    async def owned(self, owner: str) -> list[str]:
        return [run for (run,) in await self._ask(OWNED, owner)]

    async def written(self, runs: list[str]) -> list[Any]:
        return await self._ask(WRITTEN, runs)

    async def have_ended(self, runs: list[str]) -> bool:
        return (await self._ask(ENDED, runs))[0][0] == len(runs)

    async def _ask(self, sql: str, *parameters: Any) -> list[Any]:
        return await (await self._connection.execute(sql, parameters)).fetchall()


async def until(what: str, ask: Any, seconds: float) -> float:
    """Ask again and again until the answer is yes, and say how long that took. Raises: WorkerFailedError."""
    began = time.monotonic()
    while not await ask():
        if time.monotonic() - began > seconds:
            raise WorkerFailedError(f"{what}: not within {seconds} s")
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def stop_once(worker: Worker, watcher: Watcher, draw: random.Random) -> Stop | None:
    """Stop a worker at a random instant, and wake it when its runs have ended elsewhere. None: it drove none."""
    await asyncio.sleep(draw.uniform(0.5, 3))
    owner = await watcher.owner(worker)
    worker.stop()
    stopped = time.time()
    runs = await watcher.owned(owner) if owner else []

    async def is_taken_over() -> bool:
        return not await watcher.owned(owner or "")

    async def is_new() -> bool:
        return await watcher.owner(worker) not in (None, owner)

    takeover_s = await until(f"{worker.slot} is taken over", is_taken_over, PATIENCE_S)
    await until("its runs have ended", lambda: watcher.have_ended(runs), PATIENCE_S)
    before = await watcher.written(runs)
    woken = time.time()
    worker.go_on()
    if not runs:
        return None
    await until(f"{worker.slot} is a new owner", is_new, PATIENCE_S)
    await asyncio.sleep(1)
    after = await watcher.written(runs)
    return Stop(worker.lives[-1].engine, stopped, woken, runs, takeover_s, before != after)


async def torment(workers: list[Worker], place: Place, given: argparse.Namespace) -> list[Stop]:
    """All but the last worker are stopped, each as often as its share is."""
    stops: list[Stop] = []
    async with await AsyncConnection.connect(place.store, autocommit=True) as connection:
        watcher = Watcher(connection)

        async def torment_one(worker: Worker) -> None:
            draw = random.Random(f"{given.seed} {worker.slot}")
            await worker.opened()
            while len(stops) < given.times:
                stop = await stop_once(worker, watcher, draw)
                stops.extend([stop] if stop is not None else [])

        await asyncio.gather(*(torment_one(worker) for worker in workers[:-1]))
    return stops


def told_apart(stops: list[Stop], calls: list[Began]) -> tuple[set[Began], list[Began]]:
    """Calls by zombies of what is others' by then: those that were on their way when it was stopped, and the others.

    On its way is what a thread was handed, and the one call that the loop was about to make.
    """
    under_way: set[Began] = set()
    begun: list[Began] = []
    for stop in stops:
        late = [
            call for call in calls if call.engine == stop.engine and call.run in stop.runs and call.at >= stop.woken
        ]
        threads = [call for call in late if call.step in jobs.IN_THREADS]
        rest = sorted((call for call in late if call not in threads), key=lambda call: call.at)
        under_way.update(threads, rest[:1])
        begun += rest[1:]
    return under_way, begun


async def run(given: argparse.Namespace, place: Place) -> tuple[list[Stop], int, Found]:
    workers = [Worker(slot, given.victims + 1, place, at_once=2) for slot in range(given.victims + 1)]
    stops: list[Stop] = []
    async with crew(workers) as faults:
        stops = await torment(workers, place, given)
    lines = read_ledger(place.ledger)
    under_way, begun = told_apart(stops, [line for line in lines if isinstance(line, Began)])
    stored, journals = await read_store(place.store)
    pauses = [(stop.stopped, stop.woken) for stop in stops]
    found = judge(lines, [life for worker in workers for life in worker.lives], stored, journals, pauses, under_way)
    found.lost += faults
    return stops, len(begun), found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50, help="how often an owner is stopped")
    parser.add_argument("--victims", type=int, default=4, help="workers that are stopped; one more never is")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", help="keep ledger and logs here, instead of in a folder that goes")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    with place_for("postgres", given.folder) as place:
        stops, begun, found = asyncio.run(run(given, place))
    for line in (*found.lost[:50], *found.duplicated[:50]):
        print(line)
    slowest = max((stop.takeover_s for stop in stops), default=0.0)
    written = sum(stop.written for stop in stops)
    runs = sum(len(stop.runs) for stop in stops)
    print(f"seed {given.seed}: {runs} runs were taken over; slowest after {slowest:.1f} s")
    counts = f"stops={len(stops)} written={written} begun={begun}"
    print(f"{counts} lost={len(found.lost)} duplicated={len(found.duplicated)} takeover_max_s={slowest:.2f}")
    is_well = len(stops) >= given.times and slowest <= TAKEOVER_S
    sys.exit(0 if is_well and not (written or begun or found.lost or found.duplicated) else 1)


if __name__ == "__main__":
    main()
