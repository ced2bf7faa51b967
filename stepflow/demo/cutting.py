"""The batch in a process of its own, which is killed in the middle and typed again."""

import math
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL

import anyio
import msgspec
from anyio.abc import Process

from stepflow.demo.audit import FLOWS, Cut, pools, processes
from stepflow.demo.components import READERS
from stepflow.demo.inventory import Source
from stepflow.demo.watch import Watch, worked_on
from stepflow.errors import StepflowError
from stepflow.execution.events import decode_events
from stepflow.flow.read import read_flow
from stepflow.protocols import Backend
from stepflow.records import ItemResult, RunId
from stepflow.stores.open import open_reader

KILLED_AT = 0.4
_POLL_S = 0.02
_STORE = "audit.db"
_INPUTS = "inputs.jsonl"
_SUCCEEDED, _ITEM_FAILED = 0, 3


class BatchError(StepflowError):
    """The command that audits the files could not; the text is what it said."""


def line(folder: Path, output: Path | None) -> list[str]:
    """What is typed, twice."""
    busy = READERS + 4 * processes()  # two for each place, so that none waits for its next call
    apps = [f"--app=/{name}=stepflow.demo.components:{name}" for name in ("data", "python", "ml")]
    kept = [f"--inputs={folder / _INPUTS}", f"--store={folder / _STORE}", f"--max-concurrency={busy}"]
    wanted = [] if output is None else [f"--output={output.absolute()}"]
    return [sys.executable, "-m", "stepflow.cli.main", "run", str(FLOWS[0]), *apps, *kept, *wanted]


async def run_cut(
    sources: Sequence[Source], folder: Path, *, output: Path | None, watch: Watch, show: Callable[[], object]
) -> tuple[list[ItemResult], Cut | None]:
    """The result of each file, in their order, and the kill; None where all were done before it could come.

    Args:
        folder: takes the inputs and the store.
        watch: hears every event that was stored.
        show: called whenever there is news.
    """
    (folder / _INPUTS).write_bytes(b"".join(msgspec.json.encode(source) + b"\n" for source in sources))
    command = line(folder, output)
    async with _typed(command, folder) as first:
        run_id = (await first.hear("run_id: ")).split()[-1]
        async with open_reader(folder / _STORE) as store:
            batch = _Batch(store, run_id, watch, show)
            await batch.follow(first, until=math.ceil(len(sources) * KILLED_AT))
            at, kept, in_flight = watch.done, await batch.results(), watch.under_way
            if await batch.has_ended():  # also by a kill that came after its last commit
                return list(kept.values()), None
            began = time.perf_counter()
            async with _typed(command, folder) as second:
                await second.hear("resuming ")
                resumed_s = time.perf_counter() - began
                await batch.follow(second)
            found = await batch.results()
    intact = [index for index, result in found.items() if kept.get(index, result) == result]
    return list(found.values()), Cut(
        at=at,
        total=len(sources),
        resumed_s=resumed_s,
        lost=len(sources) - len(intact),
        repeated=worked_on(watch.repeated, pools(read_flow(FLOWS[0]))),
        in_flight=in_flight,
    )


class _Batch:
    """The run as its store tells it to whoever looks on."""

    def __init__(self, store: Backend, run_id: RunId, watch: Watch, show: Callable[[], object]) -> None:
        self._store = store
        self._run_id = run_id
        self._watch = watch
        self._show = show
        self._position = 0

    async def follow(self, command: "_Command", *, until: int | None = None) -> None:
        """Look on until the command ends, or kill it once so many items have ended."""
        while not command.has_ended and (until is None or self._watch.done < until):
            await anyio.sleep(_POLL_S)
            await self._catch_up()
        await command.end()
        await self._catch_up()

    async def has_ended(self) -> bool:
        """Whether the run is over, as it is stored."""
        record = await self._store.runs.get(self._run_id)
        return record is not None and record.status.is_terminal

    async def _catch_up(self) -> None:
        while rows := await self._store.journal.history(self._run_id, after=self._position):
            for row in rows:
                for event in decode_events(row.payload)[max(0, self._position + 1 - row.first) :]:
                    self._watch.on_event(self._run_id, event)
                self._position = row.first + row.count - 1
        self._show()

    async def results(self) -> dict[int, ItemResult]:
        """Those that are stored, by item."""
        found: dict[int, ItemResult] = {}
        after = -1
        while page := await self._store.runs.results(self._run_id, after=after):
            found |= {result.index: result for result in page}
            after = page[-1].index
        return found


class _Command:
    """A command that was typed, and what it says on stderr."""

    def __init__(self, process: Process, stderr: Path) -> None:
        self._process = process
        self._stderr = stderr

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def end(self) -> None:
        """Kill it, unless it has ended. Raises: BatchError, where it ended because it could not go on."""
        if not self.has_ended:
            self._process.kill()
            await self._process.wait()
        elif self._process.returncode not in (_SUCCEEDED, _ITEM_FAILED):
            raise self._error()

    async def hear(self, beginning: str) -> str:
        """The first line that begins so. Raises: BatchError, where the command ended without."""
        while True:
            is_last = self.has_ended
            for line in self._said():
                if line.startswith(beginning):
                    return line
            if is_last:
                raise self._error()
            await anyio.sleep(_POLL_S)

    def _said(self) -> list[str]:
        """Its whole lines."""
        lines = self._stderr.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]

    def _error(self) -> BatchError:
        return BatchError(self._stderr.read_text(encoding="utf-8", errors="replace").strip().removeprefix("error: "))


@asynccontextmanager
async def _typed(command: Sequence[str], folder: Path) -> AsyncIterator[_Command]:
    """The command runs while inside, and no longer."""
    stderr = folder / "stderr.txt"
    with stderr.open("wb") as said:
        async with await anyio.open_process(command, cwd=folder, stdin=DEVNULL, stdout=DEVNULL, stderr=said) as process:
            try:
                yield _Command(process, stderr)
            finally:
                if process.returncode is None:
                    process.kill()
