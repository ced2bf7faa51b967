"""What the operator of a server asks."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, assert_never

import msgspec

from stepflow.engine import Engine
from stepflow.errors import SecretKeyError, StoreError, StoreUnavailableError
from stepflow.history.words import clock_time
from stepflow.records import MessageKind, RunId, RunRecord
from stepflow_grpc.peers import Peers
from stepflow_grpc.questions import (
    MOST_ROWS,
    MOST_RUNS,
    DeleteRun,
    FindRuns,
    GetBlob,
    GetOwnership,
    GetRun,
    ListEngines,
    ListQueues,
    ListRuns,
    PruneRuns,
    Question,
    QueueState,
    ReadJournal,
    RetryRun,
    TellRun,
    answer_of,
    answering,
    question_of,
)
from stepflow_grpc.refusals import STORE_AWAY, CallError, Code, invalid


class OperatorService:
    """Runs as the store has them, and the queues of this server and of those that share its store."""

    def __init__(self, engine: Engine, queues: Callable[[], Sequence[QueueState]], peers: Peers) -> None:
        self._engine = engine
        self._queues = queues
        self._peers = peers

    async def Ask(self, message: Any) -> AsyncIterator[Any]:
        try:
            asked = question_of(message)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise invalid(
                f"the question can't be read; the asking side may be newer than this server: {error}"
            ) from None
        try:
            answer = await self._answer(asked)
        except StoreUnavailableError as error:
            raise CallError(Code.UNAVAILABLE, f"{error}{self._since()}", detail=STORE_AWAY) from error
        for piece in answering(answer):
            yield piece

    def _since(self) -> str:
        """Since when nothing can be recorded either."""
        since = self._engine.unanswered_since
        return "" if since is None else f"; it has not answered since {clock_time(since)}"

    async def _answer(self, asked: Question) -> object:
        backend = self._engine.backend
        match asked:
            case GetRun():
                return await backend.runs.get(asked.run_id)
            case FindRuns():
                return await backend.runs.find(asked.text)
            case ListRuns():
                return await self._listed(asked)
            case GetOwnership():
                return await self._engine.ownership(asked.run_id)
            case ListEngines():
                return await backend.owners.engines()
            case ReadJournal():
                return await self._rows(asked)
            case GetBlob():
                return await backend.blobs.get(asked.blob_id)
            case ListQueues():
                return await self._listed_queues() if asked.everywhere else self._queues()
            case TellRun() | RetryRun() | DeleteRun() | PruneRuns():
                return await self._done(asked)
            case _:
                assert_never(asked)

    async def _listed(self, asked: ListRuns) -> object:
        return await self._engine.backend.runs.list(
            status=asked.status,
            flow_name=asked.flow_name,
            root_id=asked.root_id,
            parent_id=asked.parent_id,
            roots_only=asked.roots_only,
            limit=min(asked.limit, MOST_RUNS),
            before=asked.before,
        )

    async def _listed_queues(self) -> Sequence[QueueState]:
        found = list(self._queues())
        for url, frames in await self._peers.each(ListQueues()):
            if frames is None:
                found.append(QueueState(queue="", server=url, remark="this server does not answer"))
            else:
                found += answer_of(frames, tuple[QueueState, ...])
        return found

    async def _rows(self, asked: ReadJournal) -> object:
        journal, limit = self._engine.backend.journal, min(asked.limit, MOST_ROWS)
        if asked.whole:
            return await journal.history(asked.run_id, after=asked.after, limit=limit, item=asked.item)
        return await journal.read(asked.run_id, after=asked.after, limit=limit)

    async def _done(self, asked: TellRun | RetryRun | DeleteRun | PruneRuns) -> object:
        retention = self._engine.backend.retention
        match asked:
            case TellRun():
                return await self._told(asked)
            case RetryRun():
                return await self._retried(asked.run_id)
            case DeleteRun():
                return await retention.delete(asked.run_id)
            case PruneRuns():
                limit = min(asked.limit, MOST_RUNS)
                return await retention.prune(ended_before=asked.ended_before, keep=asked.keep, limit=limit)
            case _:
                assert_never(asked)

    async def _retried(self, run_id: RunId) -> RunRecord:
        try:
            return await (await self._engine.retry(run_id)).record()
        except StoreUnavailableError:
            raise
        except (StoreError, SecretKeyError) as error:  # what it had is not here any more
            raise CallError(Code.FAILED_PRECONDITION, str(error)) from error

    async def _told(self, asked: TellRun) -> bool:
        if (await self._engine.get(asked.run_id)).status.is_terminal:
            return False
        match asked.kind:
            case MessageKind.CANCEL:
                await self._engine.cancel(asked.run_id)
            case MessageKind.PAUSE:
                await self._engine.pause(asked.run_id)
            case MessageKind.RESUME:
                await self._engine.resume(asked.run_id)
            case _:
                raise invalid(f"a run is not told to {asked.kind}", "kind")
        return True
