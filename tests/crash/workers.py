"""The processes of a crash loop, as whoever starts and kills them sees them."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

from database import Database, database
from oracle import Life

WORKER = Path(__file__).with_name("worker.py")

OPEN_S = 60
"""How long a worker may take to open its engine, before that is a finding."""

DRAIN_S = 90
"""The same for what is open in the end."""


class WorkerFailedError(Exception):
    """A worker did what it should not, whatever was done to the others."""


class Worker:
    """A slot, and the process that fills it for now."""

    def __init__(self, slot: int, slots: int, place: "Place", *, at_once: int = 4) -> None:
        self.slot = slot
        self.process: Process | None = None
        self.lives: list[Life] = []
        self._place = place
        self._shape = ("--slot", str(slot), "--slots", str(slots), "--at-once", str(at_once))
        self._is_open = False
        self._log = place.folder / f"worker-{slot}.log"

    @property
    def is_alive(self) -> bool:
        return self.process is not None

    async def start(self) -> None:
        engine = f"{self.slot}.{len(self.lives)}"
        files = ("--store", self._place.store, "--ledger", str(self._place.ledger))
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(WORKER), *files, *self._shape, "--engine", engine),
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

    def stop(self) -> None:
        """Have it go no further until `go_on`; it is not told."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    async def end(self) -> None:
        """Have it gone, whatever it does."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

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


@contextmanager
def place_for(store: str, folder: str | None) -> Iterator[Place]:
    """A fresh one. With `folder`, ledger and logs stay there."""
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory(prefix="loop") as name:
        there = Path(name)
        there.mkdir(exist_ok=True)
        if store == "sqlite":
            yield Place(there, str(there / "runs.db"), None)
        else:
            with database() as server:
                yield Place(there, server.url, server)


@asynccontextmanager
async def crew(workers: Sequence[Worker]) -> AsyncIterator[list[str]]:
    """The workers, started; in the end they finish what is open and leave. Gives the list of what went wrong."""
    faults: list[str] = []
    try:
        for worker in workers:
            await worker.start()
        yield faults
        drained = await asyncio.gather(*(worker.drain() for worker in workers), return_exceptions=True)
        faults += [f"{type(error).__name__}: {error}" for error in drained if error is not None]
        if not faults:
            await asyncio.gather(*(worker.leave() for worker in workers))
    except WorkerFailedError as error:
        faults.append(str(error))
    finally:
        for worker in workers:
            await worker.end()
