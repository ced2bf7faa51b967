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
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from database import Database, database
from ledger import read_ledger
from oracle import Found, Life, judge, quantile
from stored import read_store

WORKER = Path(__file__).with_name("worker.py")

OPEN_S = 60
"""How long a worker may take to open its engine, before that is a finding."""

DRAIN_S = 90
"""The same for what is open in the end."""


class WorkerFailedError(Exception):
    """A worker did what it should not, whatever was done to the others."""


class Worker:
    """A slot, and the process that fills it for now."""

    def __init__(self, slot: int, place: "Place", given: argparse.Namespace) -> None:
        self.slot = slot
        self.process: Process | None = None
        self.lives: list[Life] = []
        self._place = place
        self._slots = given.engines
        self._is_open = False
        self._log = place.folder / f"worker-{slot}.log"

    @property
    def is_alive(self) -> bool:
        return self.process is not None

    async def start(self) -> None:
        engine = f"{self.slot}.{len(self.lives)}"
        shape = ["--slot", str(self.slot), "--slots", str(self._slots), "--engine", engine]
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(WORKER), "--store", self._place.store, "--ledger", str(self._place.ledger)),
                *shape,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
            )
        self._is_open = False
        self.lives.append(Life(engine, self.slot, time.time()))

    async def kill(self) -> None:
        assert self.process is not None
        process, self.process = self.process, None
        if process.returncode is not None:
            raise self._failed(f"ended by itself with {process.returncode}")
        process.kill()
        self.lives[-1].died = time.time()
        await process.wait()

    async def opened(self) -> None:
        """Wait until its engine is open. Raises: WorkerFailedError."""
        if not self._is_open:
            await self._said(b"open\n", OPEN_S)
            self._is_open = True

    async def drain(self) -> None:
        """Let it finish what it began. Raises: WorkerFailedError."""
        await self.opened()
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(b"drain\n")
        await self._said(b"drained\n", DRAIN_S)

    async def _said(self, word: bytes, seconds: float) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                if await self.process.stdout.readline() != word:
                    raise self._failed(f"ended before it said {word!r}")
        except TimeoutError:
            raise self._failed(f"has not said {word!r} after {seconds} s") from None

    def _failed(self, what: str) -> WorkerFailedError:
        tail = self._log.read_text(errors="replace")[-3_000:]
        return WorkerFailedError(f"worker {self.slot} {what}; the end of its log:\n{tail}")

    async def leave(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            await self.process.wait()


class Place:
    """Where a loop keeps its things."""

    def __init__(self, folder: Path, store: str, database: Database | None) -> None:
        self.folder = folder
        self.store = store
        self.database = database
        self.ledger = folder / "ledger"
        self.outages: list[tuple[float, float]] = []

    async def crash_database(self) -> None:
        assert self.database is not None
        began = time.time()
        await asyncio.to_thread(self.database.crash_and_start)
        self.outages.append((began, time.time()))


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
    draw = random.Random(given.seed)
    workers = [Worker(slot, place, given) for slot in range(given.engines)]
    faults: list[str] = []
    for worker in workers:
        await worker.start()
    try:
        await torment(workers, place, draw, given.minutes * 60)
        drained = await asyncio.gather(*(worker.drain() for worker in workers), return_exceptions=True)
        faults += [f"{type(error).__name__}: {error}" for error in drained if error is not None]
        if not faults:
            await asyncio.gather(*(worker.leave() for worker in workers))
    except WorkerFailedError as error:
        faults.append(str(error))
    finally:
        for worker in workers:
            if worker.process is not None and worker.process.returncode is None:
                worker.process.kill()
                await worker.process.wait()
    lives = [life for worker in workers for life in worker.lives]
    stored, journals = await read_store(place.store)
    found = judge(read_ledger(place.ledger), lives, stored, journals, place.outages)
    found.lost += faults
    return found, sum(life.died is not None for life in lives)


@contextmanager
def place_for(given: argparse.Namespace) -> Iterator[Place]:
    with nullcontext(given.folder) if given.folder else tempfile.TemporaryDirectory(prefix="loop") as name:
        folder = Path(name)
        folder.mkdir(exist_ok=True)
        if given.store == "sqlite":
            yield Place(folder, str(folder / "runs.db"), None)
        else:
            with database() as server:
                yield Place(folder, server.url, server)


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
    with place_for(given) as place:
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
