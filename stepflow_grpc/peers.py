"""The other engines of a shared store, asked on behalf of a worker whose call came to the wrong one.

Workers that call a name behind which several orchestrators are reach any of them with what they say of a task. Only the
engine whose stream the task went through knows who has it, so claims and heartbeats are passed on to that one.
"""

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import msgspec

from stepflow.engine import Engine
from stepflow.protocols import Clock
from stepflow.records import RunId, TaskId
from stepflow_grpc.address import read_address
from stepflow_grpc.cancellation import answer_of
from stepflow_grpc.channel import open_channel
from stepflow_grpc.credentials import read_credentials
from stepflow_grpc.messages import NUMBERS, WORK_PACKAGE, Frame, methods, new
from stepflow_grpc.questions import Question, asking
from stepflow_grpc.reports import Report
from stepflow_grpc.services.beside import FORWARDED, said

logger = logging.getLogger("stepflow.server")

HOLDER = "holder"
"""Answer only if the task went to this worker through your streams."""

OWNER = "owner"
"""Answer as if the worker had called you."""

REPORT = "report"
"""Tell whoever watches your runs how far the task is: `status_message` is JSON. Nothing else follows from it."""

PATIENCE_S = 2.0
"""How long another engine may take to answer."""

TRUSTED_S = 1.0
"""How long the list of engines is used before it is read again."""

MOST_HOLDERS = 10_000

_SERVICE = "OrchestratorService"
_IN_PROGRESS = NUMBERS["TASK_STATUS_IN_PROGRESS"]
_ANY = ("0.0.0.0", "::", "")


class Peers:
    """Where a store has one engine only, nobody is asked."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._channels: dict[str, Any] = {}
        self._holders: OrderedDict[TaskId, str] = OrderedDict()
        self._urls: Sequence[str] = ()
        self._read_at: float | None = None

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    @property
    def may_exist(self) -> bool:
        return self._engine.backend.is_shared

    async def heartbeat(self, request: Any) -> Any | None:
        """The answer of the engine that sent a task to this worker. None: no engine says that it did."""
        held = self._holders.get(request.task_id)
        if held is not None:
            answer = await self._ask(held, "TaskHeartbeat", request)
            if answer is not None:
                return answer
            self._holders.pop(request.task_id, None)
        urls = await self._others()
        answers = await asyncio.gather(*(self._ask(url, "TaskHeartbeat", request) for url in urls))
        found = [(url, answer) for url, answer in zip(urls, answers, strict=True) if answer is not None]
        found.sort(key=lambda each: each[1].status != _IN_PROGRESS)
        if not found:
            return None
        url, answer = found[0]
        if answer.status == _IN_PROGRESS:
            self._holders[request.task_id] = url
            if len(self._holders) > MOST_HOLDERS:
                self._holders.popitem(last=False)
        return answer

    async def complete(self, request: Any) -> bool:
        """Give an answer to the engine whose worker it was seen to come from. False: none, or it does not want it."""
        held = self._holders.pop(request.task_id, None)
        return held is not None and await self._ask(held, "CompleteTask", request) is not None

    async def told(self, request: Any) -> bool:
        """Give a worker's list of components to the engine that asked for it. False: none did."""
        if not self.may_exist:
            return False
        urls = await self._others()
        answers = await asyncio.gather(*(self._ask(url, "CompleteTask", request) for url in urls))
        return any(answer is not None for answer in answers)

    async def each(self, question: Question) -> Sequence[tuple[str, Sequence[Frame] | None]]:
        """What every other engine that can be reached says to a question of its operator; None: nothing in time."""
        if not self.may_exist:
            return ()
        self._read_at = None  # whoever looks sees who is there now
        urls = await self._others()
        return list(zip(urls, await asyncio.gather(*(self._heard_from(url, question) for url in urls)), strict=True))

    async def _heard_from(self, url: str, question: Question) -> Sequence[Frame] | None:
        authorization = said("authorization")
        method = methods("OperatorService", WORK_PACKAGE)["Ask"]
        stub = self._channel(url).unary_stream(
            method.path, request_serializer=method.request.SerializeToString, response_deserializer=_parser(method)
        )
        call = stub(asking(question), metadata=() if authorization is None else (("authorization", authorization),))
        try:
            with self._clock.timeout(PATIENCE_S):
                return [frame async for frame in call]
        except grpc.aio.AioRpcError as error:
            logger.info("the orchestrator at %s did not answer for an operator: %s", url, error.details())
        finally:
            call.cancel()
        return None

    async def report(self, report: Report) -> None:
        """Tell the engine that drives a run how far a task of it is; whether it hears that is not known.

        Raises: StoreError, where it can't be said which engine that is.
        """
        url = await self.owner(report.run_id)
        if url is not None:
            request = new(
                "TaskHeartbeatRequest",
                task_id=report.task_id,
                run_id=report.run_id,
                status_message=report.progress.decode(),
            )
            with suppress(grpc.aio.AioRpcError), self._clock.timeout(PATIENCE_S):
                await self.call(url, "TaskHeartbeat", request, wants=REPORT, authorization=report.authorization)

    async def owner(self, run_id: RunId) -> str | None:
        """Where the engine is that drives a run; None: it is not known, is this one, or is gone."""
        owned = await self._engine.backend.owners.ownership(run_id)
        if owned is None or owned.engine is None or owned.owner == self._engine.owner:
            return None
        return owned.engine.url

    async def call(
        self,
        url: str,
        name: str,
        request: Any,
        *,
        wants: str,
        beside: Sequence[tuple[str, str]] = (),
        authorization: str | None = None,
    ) -> Any:
        """Pass a call on, with who the caller is. It ends when the caller's does. Raises: grpc.aio.AioRpcError."""
        authorization = authorization or said("authorization")
        shown = () if authorization is None else (("authorization", authorization),)
        method = methods(_SERVICE)[name]
        stub = self._channel(url).unary_unary(
            method.path, request_serializer=method.request.SerializeToString, response_deserializer=_parser(method)
        )
        return await answer_of(stub(request, metadata=((FORWARDED, wants), *beside, *shown)))

    async def _ask(self, url: str, name: str, request: Any) -> Any | None:
        answer = None
        try:
            with self._clock.timeout(PATIENCE_S):
                answer = await self.call(url, name, request, wants=HOLDER)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                logger.warning("the orchestrator at %s did not answer for a worker: %s", url, error.details())
        return answer

    async def _others(self) -> Sequence[str]:
        now = self._clock.now()
        if self._read_at is None or now - self._read_at > TRUSTED_S:
            engines = await self._engine.backend.owners.engines()
            self._urls = [each.url for each in engines if each.url and each.owner != self._engine.owner]
            self._read_at = now
        return self._urls

    def _channel(self, url: str) -> Any:
        if url not in self._channels:
            unnamed = msgspec.structs.replace(read_credentials(), token=None, token_file=None)
            self._channels[url] = open_channel(read_address(url), unnamed)
        return self._channels[url]


def _parser(method: Any) -> Any:
    return method.response.FromString


def reachable(host: str, port: int, *, is_secure: bool = False) -> str:
    """Where other engines reach a server that listens there."""
    if host in _ANY:
        try:
            host = socket.gethostbyname(socket.gethostname())
        except OSError:
            host = "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    return f"{'https://' if is_secure else ''}{shown}:{port}"
