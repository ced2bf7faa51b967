"""Components called in spawned processes: one call a process at a time, and a process that dies loses only its own."""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from subprocess import PIPE
from typing import Any

import anyio
import msgspec
from anyio.abc import Process

from stepflow.clock import SystemClock
from stepflow.components import Component, Components
from stepflow.plugins.calling import Perform, PerformAll, limits_of
from stepflow.plugins.held import HeldCall, Limit
from stepflow.plugins.pipe import (
    Answer,
    Ask,
    Frame,
    Frames,
    GetBlob,
    Order,
    PutBlob,
    Question,
    Ready,
    Reply,
    Report,
    RunFlow,
    Settings,
    Unready,
    pack,
    portable,
)
from stepflow.plugins.stepping import GRACE_S
from stepflow.protocols import Clock, Host
from stepflow.records import BlobType, ErrorCode, Failed, Outcome, Task

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']; from stepflow.plugins.child import main; main()"
)
_CHUNK = 1 << 20
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class _UnreadyError(Exception):
    """A process could not begin."""


class _Child:
    """A running process, as its parent holds it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._received = Frames()

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    async def send(self, frame: Frame) -> None:
        await self._stdin.send(pack(frame))

    async def receive(self) -> Frame:
        while (frame := self._received.next()) is None:
            self._received.add(await self._stdout.receive(_CHUNK))
        return frame

    async def hang_up(self) -> None:
        """Let an idle process leave its lifespan and end."""
        await self._stdin.aclose()

    async def end(self, clock: Clock, *, grace_s: float = 0.0) -> int | None:
        """Wait for its end, or bring it about; its exit code, negative for a signal."""
        with clock.timeout(grace_s):
            await self.process.wait()
        if self.is_alive:
            self.process.kill()
            await self.process.wait()
        with suppress(*_GONE):
            await self.process.aclose()
        return self.process.returncode


class ProcessPool:
    """Processes for one registry, started when they are first needed and kept for the next call."""

    def __init__(self, registry: Components, limit: int | None) -> None:
        self.limit = Limit(limit or _processors(), "a process")
        self._lifespan = None if registry.lifespan is None else reference(registry.lifespan)
        self._idle: list[_Child] = []
        self._clock: Clock = SystemClock()

    async def run(self, call: HeldCall, host: Host, order: Order) -> Sequence[Outcome]:
        """Have an order carried out: one outcome a task."""
        try:
            child = await self._sent(order)
        except _UnreadyError as error:
            return [Failed(ErrorCode.UNREACHABLE, f"no process for {order.path}: {error}")] * len(order.tasks)
        is_whole = False
        try:
            answer = await self._answer(child, call, host, order)
            is_whole = True
        except _GONE:
            with anyio.CancelScope(shield=True):
                code = await child.end(self._clock, grace_s=GRACE_S)
            text = f"the process of {order.path} {_how_it_ended(code)}"
            return [Failed(ErrorCode.RESOURCE_UNAVAILABLE, text)] * len(order.tasks)
        finally:
            if is_whole and len(self._idle) < self.limit.total:
                self._idle.append(child)
            elif child.is_alive:
                with anyio.CancelScope(shield=True):
                    await child.end(self._clock)
        return answer.outcomes

    async def _sent(self, order: Order) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if await self._accepts(child, order):
                return child
        child = await self._started()
        if await self._accepts(child, order):
            return child
        raise _UnreadyError(f"it {_how_it_ended(child.process.returncode)} before it began")

    async def _accepts(self, child: _Child, order: Order) -> bool:
        """Hand over an order; False where the process died before."""
        try:
            await child.send(order)
            await child.receive()
        except _GONE:
            with anyio.CancelScope(shield=True):
                await child.end(self._clock, grace_s=GRACE_S)
            return False
        except BaseException:
            with anyio.CancelScope(shield=True):
                await child.end(self._clock)
            raise
        return True

    async def _started(self) -> _Child:
        settings = Settings([str(path) for path in sys.path], _backend(), self._lifespan)
        command = [sys.executable, "-c", _BOOT, json.dumps(msgspec.structs.asdict(settings))]
        try:
            with anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    command, stdin=PIPE, stdout=PIPE, stderr=None, start_new_session=True
                )
        except OSError as error:
            raise _UnreadyError(f"it cannot be started: {error}") from None
        child = _Child(process)
        try:
            first = await child.receive()
        except _GONE:
            raise _UnreadyError(f"it {_how_it_ended(await child.end(self._clock, grace_s=GRACE_S))}") from None
        except BaseException:
            with anyio.CancelScope(shield=True):
                await child.end(self._clock)
            raise
        if isinstance(first, Ready):
            return child
        await child.end(self._clock, grace_s=GRACE_S)
        raise _UnreadyError(first.reason if isinstance(first, Unready) else f"it began with {first!r}")

    async def _answer(self, child: _Child, call: HeldCall, host: Host, order: Order) -> Answer:
        """Serve the process until it has an answer."""
        frame = await child.receive()
        if isinstance(frame, Answer):
            return frame
        gone: Exception | None = None
        async with anyio.create_task_group() as questions:
            try:
                while not isinstance(frame, Answer):
                    if isinstance(frame, Report):
                        host.report(order.tasks[0], frame.progress)
                    elif isinstance(frame, Ask):
                        questions.start_soon(_reply, child, call, host, order.tasks[0], frame)
                    frame = await child.receive()
            except _GONE as error:
                gone = error
            questions.cancel_scope.cancel()
        if gone is not None:
            raise gone
        assert isinstance(frame, Answer)
        return frame

    async def close(self) -> None:
        """End the processes that have nothing to do; those at work are ended by the calls that wait for them."""
        idle, self._idle = self._idle, []
        with anyio.CancelScope(shield=True):
            for child in idle:
                await child.hang_up()
            async with anyio.create_task_group() as ends:
                for child in idle:
                    ends.start_soon(partial(child.end, self._clock, grace_s=GRACE_S))


async def _reply(child: _Child, call: HeldCall, host: Host, task: Task, ask: Ask) -> None:
    try:
        reply = Reply(ask.number, await _asked(call, host, task, ask.question))
    except Exception as error:  # noqa: BLE001 - raised in the process
        reply = Reply(ask.number, error=portable(error))
    with suppress(*_GONE):  # the process ended, which whoever waits for its answer sees
        await child.send(reply)


async def _asked(call: HeldCall, host: Host, task: Task, question: Question) -> Any:
    match question:
        case PutBlob():
            return await host.blobs.put(question.content, BlobType(question.type), filename=question.filename)
        case GetBlob():
            return await host.blobs.get(question.id)
        case RunFlow():
            async with call.released():
                return await host.run_flow(task, question.flow, question.inputs, **question.options)


def process_performer(component: Component, pool: ProcessPool) -> Perform:
    perform_all = process_batch_performer(component, pool, is_in_batch=False)

    async def perform(task: Task, host: Host) -> Outcome:
        return (await perform_all([task], host))[0]

    return perform


def process_batch_performer(component: Component, pool: ProcessPool, *, is_in_batch: bool = True) -> PerformAll:
    limits = (*limits_of(component), pool.limit)
    function = reference(component.function)
    broken = _not_found(component, function)

    async def perform_all(tasks: Sequence[Task], host: Host) -> list[Outcome]:
        if broken is not None:
            return [broken] * len(tasks)
        call = HeldCall(tasks[0], host, None, limits, is_in_batch=is_in_batch)
        try:
            await call.take()
            call.work()
            order = Order(function, component.path, component.id, is_in_batch, tuple(tasks))
            return list(await pool.run(call, host, order))
        finally:
            call.give_back()

    return perform_all


def reference(function: Callable[..., Any]) -> str:
    """How another process finds a function."""
    return f"{function.__module__}:{function.__qualname__}"


def find(reference: str) -> Any:
    """Raises ImportError or AttributeError."""
    module, _, name = reference.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _not_found(component: Component, function: str) -> Failed | None:
    """Another process would not find this very function."""
    try:
        found = find(function)
    except (ImportError, AttributeError) as error:
        return Failed(ErrorCode.UNREACHABLE, f"a process cannot find {function}: {error}", may_retry=False)
    code = getattr(component.function, "__code__", None)
    while found is not None and getattr(found, "__code__", None) is not code:
        found = getattr(found, "__wrapped__", None)
    if found is not None:
        return None
    return Failed(ErrorCode.UNREACHABLE, f"{function} is not the function that was registered", may_retry=False)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"was killed by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"died with exit code {code}"


def _processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _backend() -> str:
    return anyio.get_cancelled_exc_class().__module__.partition(".")[0]
