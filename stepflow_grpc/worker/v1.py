"""A worker's connection to a server of `stepflow.v1`, ours or another."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import grpc.aio

from stepflow.records import Json, Outcome, TaskId
from stepflow_grpc.address import Address, AddressError, read_address
from stepflow_grpc.channel import open_channel
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.messages import methods, new
from stepflow_grpc.wire import from_value
from stepflow_grpc.worker.callbacks import Callbacks
from stepflow_grpc.worker.calls import CallFailed
from stepflow_grpc.worker.link import Desk, Given, LinkLostError
from stepflow_grpc.worker.wire_task import WireTask

_PULL = methods("TasksService")["PullTasks"]


class V1Link:
    """Pulls tasks from one stream. At most one is held that nobody has a slot for, so that questions which components
    there are get through where all slots are busy, and others can have the rest.
    """

    engine = ""  # the protocol does not say

    def __init__(
        self,
        address: Address,
        callbacks: Callbacks,
        *,
        credentials: Credentials | None = None,
        name: str | None = None,
    ) -> None:
        self.address = address
        self._callbacks = callbacks
        self._credentials = credentials
        self._name = name
        self._is_live = False
        self._held: deque[Given] = deque()
        self._room = asyncio.Event()
        self._leaving = asyncio.Event()
        self._left = asyncio.Event()
        self._desk: Desk | None = None

    @property
    def is_live(self) -> bool:
        return self._is_live

    async def run(self, desk: Desk) -> None:
        self._desk = desk
        if not desk.is_draining:
            await self._pull(desk)
        while desk.has():  # what is at work is answered by calls of its own
            self._left.clear()
            await self._left.wait()

    async def _pull(self, desk: Desk) -> None:
        """Until the desk drains. Raises: LinkLostError."""
        channel = open_channel(self.address, self._credentials, name=self._name)
        stub: Any = channel.unary_stream(_PULL.path, _PULL.request.SerializeToString, _PULL.response.FromString)
        stream = stub(new("PullTasksRequest", queue_name=desk.queue, worker_id=desk.worker_id))
        reading, leaving = asyncio.create_task(self._read(stream, desk)), asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            self._is_live = False
            self._held.clear()  # nobody has claimed them: the server gives them to others
            for each in (reading, leaving, stream):
                each.cancel()
            await asyncio.gather(reading, leaving, return_exceptions=True)
            await channel.close()

    async def _read(self, stream: Any, desk: Desk) -> None:
        try:
            await stream.initial_metadata()
            if not stream.done():
                self._go_live(desk)
            while (message := await stream.read()) is not grpc.aio.EOF:
                self._go_live(desk)
                if message.WhichOneof("task") == "list_components":
                    self._callbacks.introduce(message.task_id, self._url(message), desk.components)
                elif message.WhichOneof("task") == "execute":
                    self._held.append(self._given(message, desk))
                    await self._place(desk)
        except CallFailed as error:
            raise LinkLostError(error.details() or "", status=error.code().name) from None
        raise LinkLostError("the server ended the stream")

    def _go_live(self, desk: Desk) -> None:
        if self._is_live:
            return
        self._is_live = True
        for given, outcome in desk.unanswered():
            self.answer(given, outcome)

    async def _place(self, desk: Desk) -> None:
        """Begin with what is held, until at most one is left."""
        self._begin(desk)
        while len(self._held) > 1:
            self._room.clear()
            await self._room.wait()

    def _begin(self, desk: Desk) -> None:
        while self._held and desk.begin(self._held[0], self):
            self._held.popleft()
        self._room.set()

    def changed(self) -> None:
        if self._desk is None:
            return
        if self._desk.is_draining:
            self._leaving.set()
            self._left.set()
        else:
            self._begin(self._desk)

    def answer(self, given: Given, outcome: Outcome) -> None:
        assert self._desk is not None
        self._callbacks.answer(given, outcome, self._desk)

    def progress(self, given: Given, value: Json) -> None:
        assert self._desk is not None
        self._callbacks.progress(given, self._desk.worker_id, value)

    def say_what_is_there(self, has: Sequence[TaskId]) -> None:
        """The protocol has no words for it."""

    def _url(self, message: Any) -> str:
        """Where calls about a task go: where it says, else where it came from."""
        url: str = message.context.orchestrator_service_url
        try:
            read_address(url)
        except AddressError:
            return str(self.address)
        return url

    def _given(self, message: Any, desk: Desk) -> Given:
        """The task of an assignment, which has to be claimed."""
        execute, seen = message.execute, message.execute.observability
        task = WireTask(
            wire_id=message.task_id,
            run_id=seen.run_id,
            root_run_id=message.context.root_run_id,
            flow_id=seen.flow_id,
            item=0,
            step=0,
            step_id=seen.step_id,
            component=execute.component_id,
            target=execute.component_id,
            input=from_value(execute.input),
            attempt=execute.attempt or 1,
            path_params=dict(execute.path_params),
        )

        async def claim() -> bool:
            return await self._callbacks.claim(given, desk.worker_id)

        given = Given(message.task_id, task, self._url(message), message.heartbeat_interval_secs or 1.0, claim)
        return given
