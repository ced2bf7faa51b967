"""The process that calls components for `processes.py`. It lives as long as the pipe from its parent is open."""

import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

import anyio
from anyio.from_thread import BlockingPortal

from stepflow.clock import SystemClock
from stepflow.components import Batch, Components
from stepflow.plugins.calling import Means, Perform, PerformAll, batch_performer, performer
from stepflow.plugins.failure import failed_by
from stepflow.plugins.lifespan import entered
from stepflow.plugins.pipe import (
    Answer,
    Ask,
    Begun,
    Frame,
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
    read,
)
from stepflow.plugins.processes import find
from stepflow.plugins.stepping import GRACE_S
from stepflow.protocols import Clock, Host, SubRun
from stepflow.records import Blob, BlobId, BlobType, ErrorCode, Failed, Json, Outcome, Task


def main() -> None:
    """Serve the parent until it hangs up. What components print goes to stderr, since stdout is the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes
    settings = Settings(**json.loads(sys.argv.pop()))  # paths may hold lone surrogates, which msgspec refuses
    orders, answers = _take_pipes()
    anyio.run(_serve, settings, orders, answers, backend=settings.backend)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return orders, answers


async def _serve(settings: Settings, orders: BinaryIO, answers: BinaryIO) -> None:
    child = _Child(answers)
    try:
        registry = Components(None if settings.lifespan is None else find(settings.lifespan))
        async with entered(registry) as state:
            child.write(Ready())
            await child.serve(registry, state, orders)
    except Exception as error:  # noqa: BLE001 - told to the parent
        child.write(Unready(f"{type(error).__name__}: {failed_by(error).message}"))


class _Child:
    """Calls one order at a time, and asks the parent what components ask."""

    def __init__(self, answers: BinaryIO) -> None:
        self.host = _PipeHost(self)
        self._answers = answers
        self._performs: dict[str, PerformAll] = {}
        self._is_busy = False

    def write(self, frame: Frame) -> None:
        rest = memoryview(pack(frame))
        try:
            while rest:
                rest = rest[self._answers.write(rest) :]
        except BrokenPipeError:
            os._exit(1)  # the parent is gone

    async def serve(self, registry: Components, state: Any, orders: BinaryIO) -> None:
        over = anyio.Event()
        async with BlockingPortal() as portal, anyio.create_task_group() as tasks:
            means = Means(state, tasks, 1, is_alone=True)

            async def take(frame: Frame) -> None:
                if isinstance(frame, Reply):
                    self.host.take(frame)
                elif isinstance(frame, Order):
                    await self._carry_out(frame, registry, means)

            def read_on() -> None:
                """Hand on what the parent writes. It hangs up when there is nothing to do, or because it is gone."""
                try:
                    while (frame := read(orders)) is not None:
                        if isinstance(frame, Order):
                            self._is_busy = True
                        portal.start_task_soon(take, frame)
                    if not self._is_busy:
                        portal.start_task_soon(over.set)
                        threading.Event().wait(GRACE_S)
                finally:
                    os._exit(1)

            threading.Thread(target=read_on, daemon=True).start()
            await over.wait()
            tasks.cancel_scope.cancel()

    async def _carry_out(self, order: Order, registry: Components, means: Means) -> None:
        self.write(Begun())
        try:
            outcomes = await self._outcomes(order, registry, means)
        except (ImportError, AttributeError) as error:
            text = f"{order.function} cannot be found in a process: {error}"
            outcomes = [Failed(ErrorCode.UNREACHABLE, text, may_retry=False)] * len(order.tasks)
        self._is_busy = False
        self.write(Answer(outcomes))

    async def _outcomes(self, order: Order, registry: Components, means: Means) -> list[Outcome]:
        perform_all = self._performs.get(order.id)
        if perform_all is None:
            batch = Batch(1) if order.is_batch else None
            registry.component(order.path, id=order.id, batch=batch)(find(order.function))
            component = registry.get(order.id)
            assert component is not None
            made = batch_performer(component, means) if order.is_batch else _each(performer(component, means))
            perform_all = self._performs[order.id] = made
        return await perform_all(order.tasks, self.host)


def _each(perform: Perform) -> PerformAll:
    async def perform_all(tasks: Sequence[Task], host: Host) -> list[Outcome]:
        return [await perform(task, host) for task in tasks]

    return perform_all


class _PipeHost:
    """The engine, as components in this process see it."""

    def __init__(self, child: _Child) -> None:
        self.clock: Clock = SystemClock()
        self.blobs = self
        self._child = child
        self._asked: dict[int, anyio.Event] = {}
        self._replies: dict[int, Reply] = {}
        self._last = 0

    def take(self, reply: Reply) -> None:
        event = self._asked.pop(reply.number, None)
        if event is not None:
            self._replies[reply.number] = reply
            event.set()

    async def _ask(self, question: Question) -> Any:
        self._last += 1
        number = self._last
        event = self._asked[number] = anyio.Event()
        self._child.write(Ask(number, question))
        await event.wait()
        reply = self._replies.pop(number)
        if reply.error is not None:
            raise reply.error
        return reply.value

    def queued(self, task: Task, seconds: float) -> None:
        """Nothing queues here."""

    def report(self, task: Task, progress: Json) -> None:
        self._child.write(Report(progress))

    @asynccontextmanager
    async def waiting(self, task: Task, reason: str) -> AsyncIterator[None]:
        yield

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        blob_id: BlobId = await self._ask(PutBlob(content, type.value, filename))
        return blob_id

    async def get(self, blob_id: BlobId) -> Blob | None:
        blob: Blob | None = await self._ask(GetBlob(blob_id))
        return blob

    async def run_flow(
        self, task: Task, flow: BlobId | Mapping[str, Json], inputs: Sequence[Json], **options: Any
    ) -> SubRun:
        sub_run: SubRun = await self._ask(RunFlow(flow, inputs, options))
        return sub_run
