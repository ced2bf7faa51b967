"""The fast path, from the worker's side: many tasks and many answers in a frame."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
import msgspec

from stepflow.clock import SystemClock
from stepflow.protocols import Clock
from stepflow.records import ErrorCode, Failed, Outcome, TaskId
from stepflow_grpc import frames
from stepflow_grpc.address import Address
from stepflow_grpc.channel import open_channel
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.frames import Begun, FromServer, FromWorker, Hello, Reply, Welcome
from stepflow_grpc.messages import WORK_PACKAGE, methods
from stepflow_grpc.worker.link import Desk, Given, LinkLostError, NotSpokenError

MOST_ANSWERS = 256
"""Of one frame."""

FRAME_BYTES = 1024 * 1024
"""What a frame of several answers is kept below."""

LONGEST_ANSWER = 4 * 1024 * 1024 - 64 * 1024
"""Bytes of one answer that a server takes."""

MOST_UNHEARD = 2
"""Frames with answers on the way: what ends meanwhile waits for the next, so that a busy server gets large ones."""

TICK_S = 0.025
"""A task that was not answered within one to two of these is said to have begun."""

QUIET_S = 1.0
"""After so long without a frame the worker says that it lives."""

AGAIN_S = 1.0
"""How long to wait before an answer is said again whose run is on the way to another engine."""


class FastLink:
    """One orchestrator over one stream."""

    def __init__(
        self,
        address: Address,
        clock: Clock | None = None,
        *,
        credentials: Credentials | None = None,
        name: str | None = None,
    ) -> None:
        self.address = address
        self._credentials = credentials
        self._name = name
        self.engine = ""  # which engine this is; known once it is live
        self.is_live = False
        self._clock = clock or SystemClock()
        self._bell = asyncio.Event()
        self._any_begun = asyncio.Event()
        self._url = ""
        self._said: dict[TaskId, Reply] = {}  # answers that are not acknowledged
        self._to_say: dict[TaskId, Reply] = {}
        self._declined: list[TaskId] = []
        self._new: dict[TaskId, int] = {}  # begun since the last tick: attempts
        self._older: dict[TaskId, int] = {}
        self._begun: list[Begun] = []
        self._granted = 0  # tasks that the server may still send
        self._components: Sequence[Any] = ()
        self._unheard = 0  # frames with answers that the server has not taken
        self._has_told_draining = False
        self._has: Sequence[TaskId] | None = None
        self._bytes_an_answer = 0.0

    async def run(self, desk: Desk) -> None:
        async with open_channel(self.address, self._credentials, name=self._name) as channel:
            method = methods("WorkService", WORK_PACKAGE)["Connect"]
            make = channel.stream_stream
            call = make(method.path, method.request.SerializeToString, method.response.FromString)()
            try:
                await self._connected(desk, call)
            except grpc.aio.AioRpcError as error:
                raise _lost(error, self.address) from None
            finally:
                self.is_live = False
                call.cancel()

    def changed(self) -> None:
        self._bell.set()

    def answer(self, given: Given, outcome: Outcome) -> None:
        task = given.task
        self._new.pop(given.id, None)
        self._older.pop(given.id, None)
        self._to_say[given.id] = Reply(given.id, task.attempt, task.run_id, task.item, task.step, outcome)
        self._bell.set()

    def say_what_is_there(self, has: Sequence[TaskId]) -> None:
        """Another link of the worker was lost: what it has may become this engine's."""
        self._has = has
        self._bell.set()

    async def _connected(self, desk: Desk, call: Any) -> None:
        self._begin_anew(desk)
        await call.write(frames.frame(self._hello(desk)))
        welcome = _read(await call.read()).welcome
        if welcome is None:
            raise LinkLostError(f"{self.address} did not welcome the worker")
        self._welcomed(welcome)
        for given, outcome in desk.unanswered():
            self.answer(given, outcome)
        writing = asyncio.create_task(self._write(desk, call))
        ticking = asyncio.create_task(self._tick())
        try:
            await self._listen(desk, call)
        finally:
            for task in (writing, ticking):
                task.cancel()
            failures = await asyncio.gather(writing, ticking, return_exceptions=True)
        for failure in failures:
            if isinstance(failure, Exception) and not isinstance(failure, asyncio.InvalidStateError):
                raise failure

    def _begin_anew(self, desk: Desk) -> None:
        for kept in (self._said, self._to_say, self._declined, self._new, self._older, self._begun):
            kept.clear()
        self._has, self._has_told_draining, self._unheard = None, False, 0
        self._granted = desk.free
        self._components = desk.components

    def _hello(self, desk: Desk) -> FromWorker:
        hello = Hello(
            worker_id=desk.worker_id,
            queue=desk.queue,
            components=self._components,
            has=desk.has(),
            report=desk.report(),
        )
        return FromWorker(hello=hello, credit=self._granted)

    def _welcomed(self, welcome: Welcome) -> None:
        self._url, self.engine = welcome.url, welcome.engine
        self.is_live = True

    # What the server says

    async def _listen(self, desk: Desk, call: Any) -> None:
        while True:
            message = await call.read()
            if message is grpc.aio.EOF:
                break
            self._take(desk, _read(message))
        if not desk.is_draining:
            raise LinkLostError(f"{self.address} ended the stream")

    def _take(self, desk: Desk, said: FromServer) -> None:
        self._unheard -= said.heard
        for task_id in said.recorded:
            self._said.pop(task_id, None)
            desk.acknowledged(task_id)
        if said.again:
            asyncio.get_running_loop().call_later(AGAIN_S, self._say_again, said.again)
        for gone in said.gone:
            if self._new.pop(gone.id, None) is None:
                self._older.pop(gone.id, None)
            desk.stop(gone.id, gone.attempt)
        if said.tasks:
            self._granted -= len(said.tasks)
            self._begin(desk, said.tasks)
        self._bell.set()

    def _begin(self, desk: Desk, tasks: Sequence[frames.Given]) -> None:
        url, new = self._url, self._new
        for sent in tasks:
            new[sent.id] = sent.task.attempt
            if not desk.begin(Given(sent.id, sent.task, url), self):
                del new[sent.id]
                self._declined.append(sent.id)
        if new:
            self._any_begun.set()

    def _say_again(self, task_ids: Sequence[TaskId]) -> None:
        for task_id in task_ids:
            reply = self._said.get(task_id)
            if reply is not None:
                self._to_say[task_id] = reply
        self._bell.set()

    # What the worker says

    async def _write(self, desk: Desk, call: Any) -> None:
        """A frame of all that is ready, each time that something is."""
        while True:
            for message in self._ready(desk):
                await call.write(message)
            if self._to_say and self._unheard < MOST_UNHEARD:
                continue
            if desk.is_draining and self._has_told_draining and not (self._said or desk.has()):
                await call.done_writing()
                return
            self._bell.clear()
            await self._wait()

    async def _wait(self) -> None:
        """Until something is to be said, or the worker has been quiet for a while."""
        with self._clock.timeout(QUIET_S):
            await self._bell.wait()

    def _ready(self, desk: Desk) -> Sequence[Any]:
        answers: Sequence[Reply] = ()
        if self._unheard < MOST_UNHEARD:
            answers = self._next_answers()
        elif not self._is_urgent(desk):
            return ()
        credit = desk.free - self._granted
        self._granted += credit
        begun, self._begun = self._begun, []
        declined, self._declined = self._declined, []
        has, self._has = self._has, None
        components = None
        if desk.components is not self._components:
            components = self._components = desk.components
        self._has_told_draining = desk.is_draining
        said = FromWorker(
            credit=credit,
            begun=begun,
            answers=answers,
            declined=declined,
            components=components,
            is_draining=desk.is_draining,
            has=has,
        )
        message = frames.frame(said)
        size = len(message.json)
        if answers:
            self._bytes_an_answer = size / len(answers)
            self._unheard += 1
        if size <= 2 * FRAME_BYTES:
            return (message,)
        self._unheard -= 1
        parts = self._split(answers)
        self._unheard += len(parts)
        return (frames.frame(msgspec.structs.replace(said, answers=())), *parts)

    def _is_urgent(self, desk: Desk) -> bool:
        """Whether something is to be said that waits for no turn."""
        has_more = self._begun or self._declined or self._has is not None or desk.free < self._granted
        return bool(has_more) or desk.is_draining != self._has_told_draining or desk.components is not self._components

    def _next_answers(self) -> list[Reply]:
        limit = MOST_ANSWERS
        if self._bytes_an_answer:
            limit = max(1, min(limit, int(FRAME_BYTES / self._bytes_an_answer)))
        to_say, self._to_say = self._to_say, {}
        answers = list(to_say.values())
        if len(answers) > limit:
            self._to_say = {reply.id: reply for reply in answers[limit:]}
            del answers[limit:]
        for reply in answers:
            self._said[reply.id] = reply
        return answers

    def _split(self, answers: Sequence[Reply]) -> Sequence[Any]:
        """Answers that are too much for one frame."""
        message = frames.frame(FromWorker(answers=answers))
        if len(message.json) <= 2 * FRAME_BYTES:
            return (message,)
        if len(answers) > 1:
            half = len(answers) // 2
            return (*self._split(answers[:half]), *self._split(answers[half:]))
        if len(message.json) <= LONGEST_ANSWER:
            return (message,)
        failed = _too_long(len(message.json))
        return (frames.frame(FromWorker(answers=[msgspec.structs.replace(answers[0], outcome=failed)])),)

    async def _tick(self) -> None:
        """Say which tasks have begun that were not answered within the moment."""
        while True:
            await self._any_begun.wait()
            self._any_begun.clear()
            await self._clock.sleep(TICK_S)
            if self._older:
                self._begun += [Begun(task_id, attempt) for task_id, attempt in self._older.items()]
                self._bell.set()
            self._older, self._new = self._new, {}
            if self._older:
                self._any_begun.set()


def _read(message: Any) -> FromServer:
    """Raises: LinkLostError."""
    if message is grpc.aio.EOF:
        raise LinkLostError("the server ended the stream")
    try:
        return frames.from_server(message)
    except msgspec.DecodeError as error:
        raise LinkLostError(f"what the server says can't be read: {error}") from None


def _lost(error: grpc.aio.AioRpcError, address: Address) -> LinkLostError:
    what = f"{address}: {error.code().name}, {error.details()}"
    return NotSpokenError(what) if error.code() is grpc.StatusCode.UNIMPLEMENTED else LinkLostError(what)


def _too_long(size: int) -> Failed:
    mib = 1024 * 1024
    what = f"the output is too large: {size / mib:.1f} MiB of JSON, and {LONGEST_ANSWER / mib:.1f} MiB can be sent"
    return Failed(ErrorCode.INVALID_INPUT, f"{what}; put the value into a blob and give its id", may_retry=False)
