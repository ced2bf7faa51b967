"""Kill engines under load, again and again, and hold what comes of it against what their components wrote down.

Real processes run engines on one store and submit work to themselves. At random instants one is killed with SIGKILL and
started again, now and then so late that another has to take its runs over; the PostgreSQL server is crashed and started
among them. In the end nothing accepted may be missing or wrong, and nothing done twice unless a crash explains it.
The last line says how that went; the exit code is 1 where something was lost or done twice.
"""

# ruff: noqa: T201

import argparse
import asyncio
import random
import sys
import time

from ledger import read_ledger
from oracle import Found, judge, quantile
from stored import read_store
from workers import Place, Worker, crew, place_for


async def torment(workers: list[Worker], place: Place, draw: random.Random, seconds: float) -> None:
    """Kill and start until the time is over; of several engines at least one is open whenever another is killed."""
    until = time.monotonic() + seconds
    asleep: set[asyncio.Task[None]] = set()
    while time.monotonic() < until:
        alive = [worker for worker in workers if worker.is_alive]
        victim = draw.choice(alive)
        if draw.random() < 0.7:
            await victim.opened()
            await asyncio.sleep(draw.uniform(0.5, 4))
        else:
            await asyncio.sleep(draw.uniform(0.1, 1))
        if place.database is not None and draw.random() < 0.15:
            await place.crash_database()
            continue
        survivors = [worker for worker in alive if worker is not victim]
        if len(workers) > 1 and not survivors:
            continue
        if survivors:
            await draw.choice(survivors).opened()
        await victim.kill()
        delay = draw.choice([0.0, 12.0]) if len(workers) > 1 else 0.0
        if not delay:
            await victim.start()
            continue
        sleeper = asyncio.create_task(_start_later(victim, delay))
        asleep.add(sleeper)
        sleeper.add_done_callback(asleep.discard)
    await asyncio.gather(*asleep)


async def _start_later(worker: Worker, delay: float) -> None:
    await asyncio.sleep(delay)
    await worker.start()


async def run(given: argparse.Namespace, place: Place) -> tuple[Found, int]:
    workers = [Worker(slot, given.engines, place) for slot in range(given.engines)]
    async with crew(workers) as faults:
        await torment(workers, place, random.Random(given.seed), given.minutes * 60)
    lives = [life for worker in workers for life in worker.lives]
    stored, journals = await read_store(place.store)
    found = judge(read_ledger(place.ledger), lives, stored, journals, place.outages)
    found.lost += faults
    return found, sum(life.died is not None for life in lives)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--engines", type=int, default=1, help="processes at once; several share a PostgreSQL store")
    parser.add_argument("--seed", type=int, default=1, help="of the instants and the victims")
    parser.add_argument("--folder", help="keep ledger and logs here, instead of in a folder that goes")
    given = parser.parse_args()
    if given.store == "sqlite" and given.engines > 1:
        parser.error("a SQLite file serves one engine at a time")
    return given


def main() -> None:
    given = arguments()
    with place_for(given.store, given.folder) as place:
        found, kills = asyncio.run(run(given, place))
        executions = len(read_ledger(place.ledger))
    for line in (*found.lost[:50], *found.duplicated[:50]):
        print(line)
    print(f"seed {given.seed}: {executions} lines in the ledger, {len(place.outages)} crashes of the database")
    if slow := [f"{engine} after {seconds:.1f} s" for engine, seconds in found.recover_s.items() if seconds > 10]:
        print(f"taken over late: {', '.join(slow)}")
    p50, p99 = (quantile(list(found.recover_s.values()), share) for share in (0.5, 0.99))
    counts = f"kills={kills} lost={len(found.lost)} duplicated={len(found.duplicated)}"
    print(f"{counts} recover_p50_s={p50:.2f} recover_p99_s={p99:.2f}")
    sys.exit(1 if found.lost or found.duplicated else 0)


if __name__ == "__main__":
    main()
