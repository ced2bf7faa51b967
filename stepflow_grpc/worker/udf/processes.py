"""Processes that call functions: one call at a time each, kept for the next."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from subprocess import PIPE
from types import TracebackType
from typing import Self, TypeAlias

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from stepflow.errors import ComponentError
from stepflow.protocols import Clock
from stepflow.records import BlobId, Json
from stepflow_grpc.worker.udf.records import (
    LONGEST_LINE,
    Answer,
    Ask,
    Code,
    Facts,
    FromProcess,
    Order,
    Ready,
    Refused,
    Reply,
    Settings,
    ToProcess,
    UdfLimits,
)

Questions: TypeAlias = Callable[[Ask], Awaitable[Reply]]
"""Answers what a function asks of its context."""

_READY_WITHIN_S = 30.0
_GRACE_S = 2.0  # from the end of a pipe to that of its process
_MOST_KNOWN = 100  # functions that one process keeps
_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")
_DECODER = msgspec.json.Decoder(FromProcess)
_GONE = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.DelimiterNotFound,
    anyio.EndOfStream,
    anyio.IncompleteRead,
    msgspec.DecodeError,
    OSError,
    RecursionError,
)


class UdfProcesses:
    """Calls functions. Use it with `async with`; leaving it ends the processes."""

    def __init__(self, limits: UdfLimits, clock: Clock) -> None:
        self.limits = limits
        self._clock = clock
        self._idle: list[_Running] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        idle, self._idle = self._idle, []
        for running in idle:
            await running.end(self._clock)

    async def call(self, blob_id: BlobId, code: Code, input: Json, facts: Facts, questions: Questions) -> Json:
        """The output of a blob's function.

        Raises:
            ComponentError: it has none; the text says why.
        """
        running = self._known(blob_id) or await self._start()
        is_whole = False
        try:
            with self._clock.timeout(self.limits.wall_s):
                answer = await running.call(blob_id, code, input, facts, questions)
                is_whole = True
        except _GONE:
            raise ComponentError(f"Function execution failed: {await self._how_it_ended(running)}") from None
        finally:
            if is_whole and running.calls < self.limits.calls and len(running.known) < _MOST_KNOWN:
                self._idle.append(running)
            else:
                await running.end(self._clock)
        if not is_whole:
            raise ComponentError(f"Function execution failed: it took longer than {self.limits.wall_s:g} s")
        if isinstance(answer, Refused):
            raise ComponentError(answer.message, data=answer.data)
        return answer.output

    def _known(self, blob_id: BlobId) -> "_Running | None":
        """An idle process, one that has called the function before if there is one."""
        alive = [running for running in self._idle if running.is_alive]
        best = next((running for running in reversed(alive) if blob_id in running.known), alive[-1] if alive else None)
        if best is not None:
            self._idle.remove(best)
        return best

    async def _start(self) -> "_Running":
        place = await anyio.to_thread.run_sync(partial(tempfile.mkdtemp, prefix="stepflow-udf-"))
        command = [sys.executable, "-P", "-m", "stepflow_grpc.worker.udf.child", str(os.getpid())]
        try:
            with anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    command,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=None,
                    cwd=place,
                    env=_environment(place),
                    start_new_session=True,
                )
        except OSError as error:
            await _remove(place)
            raise ComponentError(f"Function execution failed: no process can be started: {error}") from None
        running = _Running(process, place)
        is_ready = False
        try:
            with self._clock.timeout(_READY_WITHIN_S):
                is_ready = await running.begin(self.limits)
        except _GONE:
            raise ComponentError(f"Function execution failed: {await self._how_it_ended(running)}") from None
        finally:
            if not is_ready:
                await running.end(self._clock)
        if not is_ready:
            raise ComponentError(f"Function execution failed: its process was not ready within {_READY_WITHIN_S:g} s")
        return running

    async def _how_it_ended(self, running: "_Running") -> str:
        code = await running.end(self._clock, grace_s=_GRACE_S)
        if code == -getattr(signal, "SIGXCPU", 0):
            return f"it used more than {self.limits.cpu_s:g} s of processor time"
        if code is not None and code < 0:
            return f"its process was killed by signal {-code}"
        return f"its process ended with exit code {code}"


class _Running:
    """A process."""

    def __init__(self, process: Process, place: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.calls = 0
        self.known: set[BlobId] = set()
        self._process = process
        self._stdin = process.stdin
        self._lines = BufferedByteReceiveStream(process.stdout)
        self._place = place

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def begin(self, limits: UdfLimits) -> bool:
        await self._stdin.send(msgspec.json.encode(Settings(limits)) + b"\n")
        return isinstance(await self._hear(), Ready)

    async def call(
        self, blob_id: BlobId, code: Code, input: Json, facts: Facts, questions: Questions
    ) -> Answer | Refused:
        self.calls += 1
        await self._say(Order(blob_id, input, facts, None if blob_id in self.known else code))
        self.known.add(blob_id)
        while isinstance(said := await self._hear(), Ask):
            await self._say(await questions(said))
        if isinstance(said, Ready):
            raise msgspec.DecodeError("it is ready twice")
        return said

    async def _say(self, said: ToProcess) -> None:
        await self._stdin.send(msgspec.json.encode(said) + b"\n")

    async def _hear(self) -> FromProcess:
        said: FromProcess = _DECODER.decode(await self._lines.receive_until(b"\n", LONGEST_LINE))
        return said

    async def end(self, clock: Clock, *, grace_s: float = 0.0) -> int | None:
        """Its exit code, negative for a signal. What it started ends with it."""
        with anyio.CancelScope(shield=True):
            if grace_s:
                with clock.timeout(grace_s):
                    await self._process.wait()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            code = await self._process.wait()
            with suppress(*_GONE):
                await self._process.aclose()
            await _remove(self._place)
        return code


def _environment(place: str) -> dict[str, str]:
    """None of the worker's, but for what Python needs to find what the worker can import."""
    kept = {name: value for name in _PASSED_ON if (value := os.environ.get(name)) is not None}
    return {
        **kept,
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": place,
        "TMPDIR": place,
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",  # of libraries that would keep address space for a thread a processor
        "OPENBLAS_NUM_THREADS": "1",
    }


async def _remove(place: str) -> None:
    await anyio.to_thread.run_sync(partial(shutil.rmtree, place, ignore_errors=True))
