"""The fast path: one stream each way between a worker of ours and the queues, in frames that carry many tasks."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import anyio
import msgspec

from stepflow.engine import Engine
from stepflow.errors import SecretKeyError, StoreError
from stepflow.protocols import Clock
from stepflow.records import ErrorCode, Failed, TaskId
from stepflow_grpc.frames import (
    VERSION,
    FromServer,
    FromWorker,
    Given,
    Gone,
    Hello,
    Receipt,
    Reply,
    Welcome,
    frame,
    from_worker,
    receipt,
)
from stepflow_grpc.plugin import Hub
from stepflow_grpc.queues.records import Heard, QueuedTask, QueueNotFoundError, Taken, Withdrawn, WorkerKind
from stepflow_grpc.queues.stream import Stream
from stepflow_grpc.refusals import CallError, Code, invalid, not_found
from stepflow_grpc.services.receipts import Receipts
from stepflow_grpc.services.tasks import Discoveries

logger = logging.getLogger("stepflow.server")

MOST_TASKS = 64
"""Of one frame: the worker is at the first ones while the next are made."""

MOST_RECEIPTS = 1_000
"""Answers that are recorded and not said to be, at most."""

ROUNDS = 3
"""Of the event loop, which a frame waits for tasks where it has none."""

LATE_S = 0.02
"""How long that waits for tasks to go with."""

FRAME_BYTES = 1024 * 1024
"""What a frame of several tasks is kept below."""

LONGEST_TASK = 48 * 1024 * 1024
"""Bytes of one task that is still sent; workers take frames of 64 MiB."""

GREETING_S = 10.0
"""How long a worker may take to say hello."""

SWEEP_S = 1.0
"""How often to look after answers whose runs are not driven here any more."""


class WorkService:
    """Connects workers of ours with the queues."""

    def __init__(self, engine: Engine, hub: Hub, discoveries: Discoveries, clock: Clock) -> None:
        self.engine = engine
        self.hub = hub
        self.discoveries = discoveries
        self.receipts = Receipts()
        self.url = ""  # where workers call back, as host:port; known once the port is
        self._clock = clock
        self._connections: dict[_Connection, None] = {}
        engine.observe(self.receipts)
        engine.exchange.kept = self.receipts.kept

    def close(self) -> None:
        """End every stream: workers connect to another server, or again."""
        for connection in list(self._connections):
            connection.stream.disconnect()

    async def run(self) -> None:
        """Look after answers whose runs went to another engine. Until it is cancelled."""
        while True:
            await self._clock.sleep(SWEEP_S)
            for run_id in self.receipts.runs():
                if not self.engine.is_driving(run_id):
                    for debtor, reply in self.receipts.forgive(run_id):
                        assert isinstance(debtor, _Connection)
                        debtor.again(reply.id)

    async def Connect(self, frames: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        hello, credit = await self._hello(frames)
        try:
            stream = self.hub.queues.connect(hello.queue, hello.worker_id, WorkerKind.OURS)
        except QueueNotFoundError:
            raise not_found("queue", hello.queue) from None
        self.discoveries.joined(hello.queue, hello.worker_id)
        connection = _Connection(self, stream, hello)
        self._connections[connection] = None
        listening = asyncio.create_task(connection.listen(frames, credit))
        beside = [
            asyncio.create_task(connection.tell_late(self._clock)),
            asyncio.create_task(connection.look_for_runs()),
        ]
        try:
            welcome = Welcome(url=self.url, engine=self.engine.owner)
            yield frame(FromServer(welcome=welcome))
            async for message in connection.frames():
                yield message
            await listening
        except anyio.EndOfStream:
            raise CallError(Code.UNAVAILABLE, "the server is closing; connect again") from None
        finally:
            for task in (listening, *beside):
                task.cancel()
            del self._connections[connection]
            stream.disconnect()
            self.discoveries.left(hello.queue, hello.worker_id)

    async def _hello(self, frames: AsyncIterator[Any]) -> tuple[Hello, int]:
        with self._clock.timeout(GREETING_S):
            async for message in frames:
                said = _read(message)
                hello = said.hello
                if hello is None:
                    raise invalid("the first frame says hello")
                if hello.version != VERSION:
                    raise CallError(Code.UNIMPLEMENTED, f"version {hello.version} is not spoken here, {VERSION} is")
                if not hello.worker_id or not hello.queue:
                    raise invalid("worker_id and queue must not be empty")
                return hello, said.credit
        raise CallError(Code.DEADLINE_EXCEEDED, f"no hello within {GREETING_S:g} s")


class _Connection:
    """One worker's stream: what it says is done at once, what it is owed goes out with the next frame."""

    def __init__(self, service: WorkService, stream: Stream, hello: Hello) -> None:
        self.stream = stream
        self._service = service
        self._engine = service.engine
        self._queues = service.hub.queues
        self._catalogue = service.hub.catalogue
        self._receipts = service.receipts
        self._worker_id = hello.worker_id
        self._hello = hello
        self._gone: list[Gone] = []
        self._recorded: list[TaskId | Receipt] = []
        self._again: list[TaskId] = []
        self._is_over = False
        self._bytes_a_task = 0.0
        self._unknown: asyncio.Queue[Reply] = asyncio.Queue()
        self._heard = 0
        self._late = asyncio.Event()
        self._has_late = False
        self._is_rung = False  # since the last frame was made: the stream's own bell rings for those only who wait

    # To the worker

    def recorded(self, task_id: TaskId, attempt: int) -> None:
        """It goes with the next tasks, or a moment later: the worker misses nothing meanwhile."""
        self._recorded.append(receipt(task_id, attempt))
        if not self._has_late:
            self._has_late = True
            self._late.set()
        if len(self._recorded) >= MOST_RECEIPTS:
            self._ring()

    async def tell_late(self, clock: Clock) -> None:
        """Say what goes with nothing else. Until it is cancelled."""
        while True:
            await self._late.wait()
            self._late.clear()
            await clock.sleep(LATE_S)
            self._has_late = False
            if self._recorded:
                self._ring()

    def again(self, task_id: TaskId) -> None:
        self._again.append(task_id)
        self._ring()

    def _ring(self) -> None:
        """There is something to say. Where a frame is being written, it is said after that."""
        self._is_rung = True
        self.stream.ring()

    async def frames(self) -> AsyncGenerator[Any, None]:
        """What is ready, a frame at a time. Raises: anyio.EndOfStream, when the stream is disconnected."""
        while True:
            self._is_rung = False
            for message in self._ready():
                yield message
            if self._has_news():
                continue
            if self._is_over:
                return
            if not self._is_rung:
                await self.stream.rung()
            await self._let_steps_begin()

    def _has_news(self) -> bool:
        return bool(self._again or self._gone or self.stream.has_more)

    async def _let_steps_begin(self) -> None:
        """What the last answers made ready goes into the same frame, where it comes at once."""
        for _ in range(ROUNDS):
            if self._has_news():
                return
            await asyncio.sleep(0)

    def _ready(self) -> Sequence[Any]:
        tasks: list[Given] = []
        gone, recorded, again, heard = self._gone, self._recorded, self._again, self._heard
        self._gone, self._recorded, self._again, self._heard = [], [], [], 0
        limit = max(1, min(MOST_TASKS, int(FRAME_BYTES / self._bytes_a_task) if self._bytes_a_task else MOST_TASKS))
        for pulled in self.stream.more(limit):
            if isinstance(pulled, QueuedTask):
                lacking = self._catalogue.lacks(pulled.queue, self._worker_id, pulled.task.target)
                if lacking is None:
                    tasks.append(Given(pulled.id, pulled.task))
                else:
                    self.stream.refuse(pulled.id, lacking)
            elif isinstance(pulled, Withdrawn):
                gone.append(Gone(pulled.task_id, pulled.attempt))
        if not (tasks or gone or recorded or again or heard):
            return ()
        message = frame(FromServer(tasks=tasks, gone=gone, recorded=recorded, again=again, heard=heard))
        size = len(message.json)
        if tasks:
            self._bytes_a_task = size / len(tasks)
        if size <= 2 * FRAME_BYTES:
            return (message,)
        first = frame(FromServer(gone=gone, recorded=recorded, again=again, heard=heard))
        return (first, *self._split(tasks))

    def _split(self, tasks: Sequence[Given]) -> Sequence[Any]:
        """Tasks that are too much for one frame."""
        message = frame(FromServer(tasks=tasks))
        if len(message.json) <= 2 * FRAME_BYTES:
            return (message,)
        if len(tasks) > 1:
            half = len(tasks) // 2
            return (*self._split(tasks[:half]), *self._split(tasks[half:]))
        if len(message.json) <= LONGEST_TASK:
            return (message,)
        self._refuse(tasks[0], len(message.json))
        return ()

    def _refuse(self, given: Given, size: int) -> None:
        mib = 1024 * 1024
        what = f"the input of step {given.task.step_id!r} is too large for a worker: {size / mib:.1f} MiB of JSON"
        remedy = "put the value into a blob and pass its id"
        failed = Failed(
            ErrorCode.INVALID_INPUT, f"{what}, {LONGEST_TASK // mib} MiB can be sent; {remedy}", may_retry=False
        )
        self._queues.complete(given.id, failed, attempt=given.task.attempt, worker_id=self._worker_id)
        self.stream.grant(1)

    # From the worker

    async def listen(self, frames: AsyncIterator[Any], credit: int) -> None:
        """Do what the worker says, until it has said its last."""
        try:
            self._queues.reconcile(self._worker_id, frozenset(self._hello.has))
            self._queues.beat(self._worker_id, self._hello.report)
            self._learn(self._hello.components)
            self.stream.grant(credit)
            async for message in frames:
                self._take(_read(message))
        finally:
            self._is_over = True
            self._ring()

    def _learn(self, components: Any) -> None:
        self._service.discoveries.learn(self._hello.queue, self._worker_id, components)

    def _take(self, said: FromWorker) -> None:
        queues, worker_id = self._queues, self._worker_id
        queues.beat(worker_id)
        if said.components is not None:
            self._learn(said.components)
        if said.has is not None:
            queues.reconcile(worker_id, frozenset(said.has))
        if said.credit:
            self.stream.grant(said.credit)
        if said.declined:
            self.stream.decline(said.declined)
        for begun in said.begun:
            if queues.heartbeat(begun.id, worker_id, attempt=begun.attempt) is not Heard.IN_PROGRESS:
                self._gone.append(Gone(begun.id, begun.attempt))
                self._ring()
        for told in said.progress:
            if queues.heartbeat(told.id, worker_id, attempt=told.attempt) is Heard.IN_PROGRESS:
                queues.report(told.id, worker_id, told.value)
        for reply, taken in zip(said.answers, queues.complete_each(said.answers, worker_id), strict=True):
            if taken is Taken.ACCEPTED:
                self._receipts.owe(reply, self)
            elif taken is Taken.STALE:
                self.recorded(reply.id, reply.attempt)
            elif self._receipts.is_owed(reply):
                self._receipts.owe(reply, self)
            else:
                self._unknown.put_nowait(reply)
        if said.answers:
            self._heard += 1
            self._ring()

    async def look_for_runs(self) -> None:
        """Hand answers to tasks that nobody waits for here to whoever drives their runs. Until it is cancelled."""
        while True:
            reply = await self._unknown.get()
            try:
                await self._engine.answer(reply.run_id, reply.id, reply.outcome, attempt=reply.attempt)
            except (StoreError, SecretKeyError) as error:
                logger.warning("the answer to task %s can't be kept now: %s", reply.id, error)
                self.again(reply.id)
            except Exception:
                logger.exception("the answer to task %s is of no use", reply.id)
                self.recorded(reply.id, reply.attempt)
            else:
                self.recorded(reply.id, reply.attempt)


def _read(message: Any) -> FromWorker:
    try:
        return from_worker(message)
    except msgspec.DecodeError as error:
        raise invalid(f"the frame can't be read: {error}") from None
