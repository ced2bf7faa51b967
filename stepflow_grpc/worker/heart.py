"""Says that this worker lives, by a process of its own: see `stepflow_grpc.worker.beating`."""

import asyncio
import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import count
from types import TracebackType
from typing import Self

import anyio
import msgspec

from stepflow.protocols import Clock
from stepflow.records import TaskId
from stepflow_grpc.address import Address, read_address
from stepflow_grpc.credentials import Credentials, read_credentials
from stepflow_grpc.queues.records import WorkerReport
from stepflow_grpc.worker.beating import (
    Begun,
    Connected,
    Ended,
    Orchestrator,
    Ready,
    Running,
    Said,
    Stalled,
    State,
    Told,
    Unwanted,
)
from stepflow_grpc.worker.beginnings import Beginnings
from stepflow_grpc.worker.link import Given
from stepflow_grpc.worker.stalls import LOOK_S, Watch, threads

_LOG = logging.getLogger("stepflow.worker")
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_READY_WITHIN_S = 10.0
_PATIENCE_S = 0.1  # of the event loop with a process that does not read what it is told
_LONGEST_LINE = 1_000_000
_LATE_S = 0.9  # before servers are told that the event loop is held up
_CATCH_UP_S = 0.1  # for what lies in the buffers of a connection
_SAID = msgspec.json.Decoder(Said)


class Heart:
    """While inside, a process beats for the worker; when it dies another takes its place. Use it with `async with`.

    It beats as long as this process exists and is not stopped, whatever the threads of this process do. A server is
    told too how the worker is, and whether its event loop has had no turn for a while.

    Args:
        unwanted: called with a task that was added and that a server does not want to hear of any more, and whether
            another worker has claimed it; else nobody waits for it there.
        ask: gives the worker's report, twice a second; without it `report` says it.
        credentials: None takes them from the environment.
    """

    def __init__(
        self,
        worker_id: str,
        clock: Clock,
        *,
        unwanted: Callable[[Given, bool], None] = lambda given, is_claimed: None,
        ask: Callable[[], WorkerReport] | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._worker_id = worker_id
        self._clock = clock
        self._on_unwanted = unwanted
        self._ask = ask
        self._credentials = read_credentials() if credentials is None else credentials
        self._report = WorkerReport()
        self._orchestrators: dict[Address, Orchestrator] = {}
        self._numbers = count(1)
        self._given: dict[int, Given] = {}
        self._running: dict[int, Running] = {}
        self._number_of: dict[TaskId, int] = {}
        self._turned_at = self._clock.now()
        self._resumed_at = 0.0
        self._ready = anyio.Event()
        self._telling: _Telling | None = None

    def connect(self, address: Address, *, name: str | None = None) -> None:
        """Beat for the worker as a whole at a server.

        Args:
            name: what the server's certificate has to be for, where the address is one of several of a name.
        """
        self._orchestrators[address] = Orchestrator(address, name)
        self._tell(Connected(self._orchestrators[address]))

    def disconnect(self, address: Address) -> None:
        self._orchestrators.pop(address, None)

    def add(self, given: Given, *, address: Address | None = None, name: str | None = None) -> None:
        """Beat for a task by itself, from its own next interval on: its claim is another's.

        Args:
            address: where; absent: at its own.
        """
        self.remove(given.id)
        number = next(self._numbers)
        orchestrator = Orchestrator(address or read_address(given.url), name)
        self._given[number] = given
        self._running[number] = Running(given.id, given.task.run_id, orchestrator, given.heartbeat_s or 1.0)
        self._number_of[given.id] = number
        self._tell(Begun(number, self._running[number]))

    def remove(self, task_id: TaskId) -> None:
        number = self._number_of.pop(task_id, None)
        if number is not None:
            del self._given[number], self._running[number]
            self._tell(Ended(number))

    def begin(self, begun: Sequence[tuple[TaskId, int]]) -> None:
        """Tasks begin, of these attempts, that have not been claimed, and it may get no turn to tell of that."""
        self._beginnings.note_each(begun)

    @property
    def is_catching_up(self) -> bool:
        """Whether the event loop had no turn for so long, until just now, that a server may have given to another
        worker what it sent meanwhile.
        """
        now = self._clock.now()
        return now - self._turned_at > _LATE_S or now - self._resumed_at < _CATCH_UP_S

    def report(self, report: WorkerReport) -> None:
        """How the worker is from now on."""
        self._report = report

    def _tell(self, told: Told) -> None:
        if self._telling is not None:
            self._telling.tell(msgspec.json.encode(told) + b"\n")

    async def __aenter__(self) -> Self:
        self._watch = Watch()
        self._beginnings = Beginnings()
        self._work = [
            asyncio.create_task(self._turn(), name="turns of the event loop"),
            asyncio.create_task(self._keep(), name=f"heartbeat of {self._worker_id}"),
        ]
        try:
            with self._clock.timeout(_READY_WITHIN_S):
                await self._ready.wait()
        except BaseException:
            await self._end()
            raise
        if not self._ready.is_set():
            _LOG.warning("the heartbeat process of this worker takes long to begin; servers may think it dead")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        for work in self._work:
            work.cancel()
        with anyio.CancelScope(shield=True):  # it kills its process at once
            await asyncio.wait(self._work)
        self._watch.close()
        self._beginnings.close()

    async def _turn(self) -> None:
        while True:
            now = self._clock.now()
            if now - self._turned_at > _LATE_S:
                self._resumed_at = now
            self._turned_at = now
            self._watch.turn()
            if self._ask is not None:
                self._report = self._ask()
            await self._clock.sleep(LOOK_S)

    async def _keep(self) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            try:
                code: int | str = await self._run()
            except OSError as error:
                code = str(error)
            _LOG.warning("the heartbeat process of this worker ended (%s); another is started", code)
            await self._clock.sleep(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _run(self) -> int:
        """Start the process, tell it all it has to know, and wait for its end. Returns: its exit code."""
        reads, writes = os.pipe()
        telling = _Telling(writes, self._line)
        try:
            process = await self._spawn(reads)
        except BaseException:
            os.close(writes)
            raise
        finally:
            os.close(reads)
        telling.start()
        self._telling = telling
        try:
            assert process.stdout is not None
            while line := await process.stdout.readline():
                self._hear(line)
            return await process.wait()
        finally:
            self._telling = None
            if process.returncode is None:
                process.kill()
                await process.wait()
            telling.end()

    async def _spawn(self, reads: int) -> asyncio.subprocess.Process:
        files = (self._watch.file, self._beginnings.file)
        return await asyncio.create_subprocess_exec(
            sys.executable or "python3",
            "-P",  # modules of the current directory are not for it
            "-m",
            "stepflow_grpc.worker.beating",
            str(os.getpid()),
            *(str(file) for file in files),
            stdin=reads,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if _LOG.isEnabledFor(logging.DEBUG) else asyncio.subprocess.DEVNULL,
            env=_environment(),
            pass_fds=files,
            limit=_LONGEST_LINE,
        )

    def _line(self) -> bytes:
        """What the process has to know now. Called by another thread, twice a second."""
        state = State(
            worker_id=self._worker_id,
            turns=self._watch.turns,
            stack=self._watch.look(),
            threads=threads(),
            orchestrators=list(self._orchestrators.values()),
            tasks=self._running.copy(),
            report=self._report,
            credentials=self._credentials,
        )
        return msgspec.json.encode(state) + b"\n"

    def _hear(self, line: bytes) -> None:
        match _SAID.decode(line):
            case Ready():
                self._ready.set()
            case Unwanted(number, is_claimed):
                given = self._given.get(number)
                if given is not None:
                    self.remove(given.id)
                    self._on_unwanted(given, is_claimed)
            case Stalled(seconds, stack):
                _LOG.warning("the event loop of this worker had no turn for %.0f s or longer\n%s", seconds, stack)


def _environment() -> dict[str, str]:
    """What this process can import, that one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}


class _Telling:
    """Writes what a process has to know into its pipe: by a thread all of it twice a second, until the pipe is broken
    or this is ended, and by the event loop what is new, at once.
    """

    def __init__(self, pipe: int, line: Callable[[], bytes]) -> None:
        self._pipe = pipe
        self._line = line
        self._lock = threading.Lock()  # what is new must not come before what was put together without it
        self._is_behind = False
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._tell_all, name="stepflow heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """The process has ended, so that the thread waits for nothing."""
        self._is_over.set()
        self._thread.join()

    def tell(self, line: bytes) -> None:
        """Write at once, unless the process does not read: it will be told with the rest."""
        if self._is_behind or not self._lock.acquire(timeout=_PATIENCE_S):
            self._is_behind = True
            return
        try:
            if len(line) <= select.PIPE_BUF and not self._is_over.is_set() and self._has_room():
                os.write(self._pipe, line)
        except OSError:
            pass  # the process ended, which another sees
        finally:
            self._lock.release()

    def _has_room(self) -> bool:
        """Whether a short line can be written without waiting."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLOUT)
        return bool(poll.poll(0))

    def _tell_all(self) -> None:
        try:
            while not self._is_over.is_set():
                with self._lock:
                    rest = memoryview(self._line())
                    while rest:
                        rest = rest[os.write(self._pipe, rest) :]
                    self._is_behind = False
                self._is_over.wait(LOOK_S)
        except OSError:
            pass  # the process ended, which another sees
        finally:
            with self._lock:
                self._is_over.set()
                os.close(self._pipe)
