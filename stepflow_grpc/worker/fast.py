"""The fast path, from the worker's side: many tasks and many answers in a frame."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import grpc.aio
import msgspec

from stepflow.clock import SystemClock
from stepflow.protocols import Clock
from stepflow.records import Json, Outcome, TaskId
from stepflow_grpc import frames
from stepflow_grpc.address import Address
from stepflow_grpc.channel import open_channel
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.frames import FromServer, FromWorker, Hello, Welcome, receipted
from stepflow_grpc.messages import WORK_PACKAGE, methods
from stepflow_grpc.worker.link import Desk, Given, LinkLostError, NotSpokenError
from stepflow_grpc.worker.speech import Speech

QUIET_S = 1.0
"""After so long without a frame the worker says that it lives."""


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
        self.engine = ""  # which engine this is; known once it is live
        self._credentials = credentials
        self._name = name
        self._clock = clock or SystemClock()
        self._line: _Line | None = None

    @property
    def is_live(self) -> bool:
        return self._line is not None

    async def run(self, desk: Desk) -> None:
        async with self._open() as call:
            await self._serve(desk, call, await _greet(desk, call, self.address))

    def changed(self) -> None:
        if self._line is not None:
            self._line.ring()

    def answer(self, given: Given, outcome: Outcome) -> None:
        if self._line is not None:  # else it is among what the desk has unanswered
            self._line.answer(given, outcome)

    def progress(self, given: Given, value: Json) -> None:
        if self._line is not None:
            self._line.progress(given, value)

    def say_what_is_there(self, has: Sequence[TaskId]) -> None:
        if self._line is not None:
            self._line.has = has
            self._line.ring()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Any]:
        async with open_channel(self.address, self._credentials, name=self._name) as channel:
            method = methods("WorkService", WORK_PACKAGE)["Connect"]
            open = channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)
            call = open()
            try:
                yield call
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                raise await _lost(call) from None
            finally:
                call.cancel()

    async def _serve(self, desk: Desk, call: Any, welcome: Welcome) -> None:
        self.engine = welcome.engine
        line = self._line = _Line(desk, self, call, welcome.url, self._clock)
        try:
            await line.run()
        finally:
            self._line = None
        if not desk.is_draining:
            raise LinkLostError(f"{self.address} ended the stream")


class _Line:
    """An open stream. What is to be said is said a frame at a time, all that is ready in one."""

    def __init__(self, desk: Desk, link: FastLink, call: Any, url: str, clock: Clock) -> None:
        self.has: Sequence[TaskId] | None = None  # to be said again
        self._bell = asyncio.Event()
        self._is_rung = False  # asked for every task, of which many come at once
        self._desk = desk
        self._link = link
        self._call = call
        self._url = url
        self._clock = clock
        self._speech = Speech(desk)

    def ring(self) -> None:
        """There may be something to say."""
        if not self._is_rung:
            self._is_rung = True
            self._bell.set()

    def answer(self, given: Given, outcome: Outcome) -> None:
        self._speech.answer(given, outcome)
        self.ring()

    def progress(self, given: Given, value: Json) -> None:
        self._speech.progress(given, value)
        self.ring()

    async def run(self) -> None:
        """Until the server ends the stream. Raises: LinkLostError."""
        for given, outcome in self._desk.unanswered():
            self._speech.answer(given, outcome)
        listening = asyncio.create_task(self._listen())
        beside = [asyncio.create_task(work) for work in (self._write(), self._tick(), self._repeat())]
        for task in beside:
            task.add_done_callback(partial(_end_with, listening))
        try:
            await asyncio.wait((listening,))
        finally:  # who cancels this hears nothing of a failure at the same moment, which would hide that
            for task in (listening, *beside):
                task.cancel()
            failures = await asyncio.gather(listening, *beside, return_exceptions=True)
        for failure in failures:
            if isinstance(failure, Exception):
                raise failure

    async def _listen(self) -> None:
        while (message := await self._call.read()) is not grpc.aio.EOF:
            self._take(_read(message))

    def _take(self, said: FromServer) -> None:
        speech, desk = self._speech, self._desk
        speech.heard(said)
        for told in said.recorded:
            task_id, attempt = receipted(told)
            speech.recorded(task_id, attempt)
            desk.acknowledged(task_id, attempt)
        for gone in said.gone:
            desk.stop(gone.id, gone.attempt)
        url, link = self._url, self._link
        for sent in said.tasks:
            speech.began(sent.id, sent.task.attempt)
        for task_id in desk.begin_each([Given(sent.id, sent.task, url) for sent in said.tasks], link):
            speech.decline(task_id)
        self.ring()

    async def _write(self) -> None:
        speech, desk = self._speech, self._desk
        while True:
            self._bell.clear()  # before it is looked what there is: what comes while that is written rings again
            self._is_rung = False
            has, self.has = self.has, None
            for said in speech.frames(has):
                await self._call.write(said)
            if speech.has_more or self.has is not None:
                continue
            if speech.has_told_draining and not desk.has():
                await self._call.done_writing()
                return
            with self._clock.timeout(QUIET_S):
                await self._bell.wait()

    async def _tick(self) -> None:
        """Say which tasks have begun that are not answered within the moment."""
        while True:
            await self._speech.some_began.wait()
            await self._clock.sleep(self._speech.TICK_S)
            if self._speech.tick():
                self.ring()

    async def _repeat(self) -> None:
        while True:
            await self._speech.some_again.wait()
            await self._clock.sleep(self._speech.AGAIN_S)
            self._speech.repeat()
            self.ring()


def _end_with(listening: "asyncio.Task[None]", other: "asyncio.Task[None]") -> None:
    if not other.cancelled() and other.exception() is not None:
        listening.cancel()


async def _greet(desk: Desk, call: Any, address: Address) -> Welcome:
    """Say hello; credit is granted only where the stream is used."""
    hello = Hello(
        worker_id=desk.worker_id,
        queue=desk.queue,
        components=desk.components,
        has=desk.has(),
        report=desk.report(),
    )
    await call.write(frames.frame(FromWorker(hello=hello)))
    welcome = _read(await call.read()).welcome
    if welcome is None:
        raise LinkLostError(f"{address} did not welcome the worker")
    return welcome


def _read(message: Any) -> FromServer:
    """Raises: LinkLostError."""
    if message is grpc.aio.EOF:
        raise LinkLostError("the server ended the stream")
    try:
        return frames.from_server(message)
    except msgspec.DecodeError as error:
        raise LinkLostError(f"what the server says can't be read: {error}") from None


async def _lost(call: Any) -> LinkLostError:
    """Why a stream broke: of a write into one that has ended only the call itself knows."""
    code, what = await call.code(), str(await call.details())
    kind = NotSpokenError if code is grpc.StatusCode.UNIMPLEMENTED else LinkLostError
    return kind(what, status=code.name)
