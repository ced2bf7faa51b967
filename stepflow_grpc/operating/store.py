"""A server's runs, as a store gives its own: for whoever looks at them and asks their engines for something."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from stepflow.clock import SystemChance, SystemClock
from stepflow.errors import StoreError
from stepflow.protocols import PAGE, Clock
from stepflow.records import (
    Blob,
    BlobId,
    EngineRecord,
    Entries,
    Message,
    MessageKind,
    Ownership,
    RunId,
    RunRecord,
)
from stepflow_grpc.address import Address
from stepflow_grpc.client.asking import ask
from stepflow_grpc.client.calls import Calls
from stepflow_grpc.questions import (
    DeleteRun,
    FindRuns,
    GetBlob,
    GetOwnership,
    GetRun,
    ListEngines,
    ListRuns,
    PruneRuns,
    ReadJournal,
    TellRun,
)

_DELETING_S = 300.0
_CALL_S, _PATIENCE_S = 30.0, 10.0


class ServerBackend:
    """The parts of a store that commands on runs look at; nothing of it can be written but through its engine.

    Whoever reads it works out himself what the rows amount to, so that a look costs the server little.
    """

    is_durable = True
    is_shared = True

    def __init__(self, address: Address) -> None:
        clock = SystemClock()
        calls = Calls(address, None, clock, SystemChance(), timeout_s=_CALL_S, patience_s=_PATIENCE_S)
        self._calls = calls
        self.runs: Any = _Runs(calls)
        self.journal: Any = _Journal(calls)
        self.blobs: Any = _Blobs(calls)
        self.owners: Any = _Owners(calls)
        self.inbox: Any = _Inbox(calls)
        self.retention: Any = _Retention(calls)
        self.signals: Any = _Signals(clock)

    async def __aenter__(self) -> Self:
        await self._calls.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._calls.close()

    @property
    def dispatch(self) -> Any:
        raise StoreError("tasks can't be taken from a server in this way: start a worker")


class _Runs:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, run_id: RunId) -> RunRecord | None:
        record: RunRecord | None = await ask(self._calls, GetRun(run_id), RunRecord | None)
        return record

    async def find(self, prefix: str) -> Sequence[RunId]:
        found: list[RunId] = await ask(self._calls, FindRuns(prefix), list[RunId])
        return found

    async def list(self, **asked: Any) -> Sequence[RunRecord]:
        found: Sequence[RunRecord] = await ask(self._calls, ListRuns(**asked), tuple[RunRecord, ...])
        return found


class _Journal:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def read(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        return await self._rows(ReadJournal(run_id=run_id, after=after, limit=limit))

    async def history(
        self, run_id: RunId, *, after: int = 0, limit: int = PAGE, item: int | None = None
    ) -> Sequence[Entries]:
        return await self._rows(ReadJournal(run_id=run_id, after=after, limit=limit, item=item, whole=True))

    async def _rows(self, asked: ReadJournal) -> Sequence[Entries]:
        rows: list[Entries] = await ask(self._calls, asked, list[Entries])
        return rows


class _Blobs:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, blob_id: BlobId) -> Blob | None:
        blob: Blob | None = await ask(self._calls, GetBlob(blob_id), Blob | None)
        return blob


class _Owners:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def ownership(self, run_id: RunId) -> Ownership | None:
        found: Ownership | None = await ask(self._calls, GetOwnership(run_id), Ownership | None)
        return found

    async def engines(self) -> Sequence[EngineRecord]:
        found: list[EngineRecord] = await ask(self._calls, ListEngines(), list[EngineRecord])
        return found


class _Inbox:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def send(self, message: Message) -> bool:
        match message.kind:
            case MessageKind.CANCEL | MessageKind.PAUSE | MessageKind.RESUME:
                is_told: bool = await ask(self._calls, TellRun(message.run_id, MessageKind(message.kind)), bool)
                return is_told
            case _:
                raise ValueError(f"a server is not asked to {message.kind} in this way")


class _Retention:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def delete(self, root_id: RunId) -> bool:
        is_gone: bool = await ask(self._calls, DeleteRun(root_id), bool, timeout_s=_DELETING_S)
        return is_gone

    async def prune(self, *, ended_before: float | None = None, keep: int | None = None, limit: int = 100) -> int:
        asked = PruneRuns(ended_before=ended_before, keep=keep, limit=limit)
        count: int = await ask(self._calls, asked, int, timeout_s=_DELETING_S)
        return count


class _Signals:
    """Nobody tells: whoever listens looks again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @contextmanager
    def listen(self, topic: str) -> Iterator["_Signals"]:
        yield self

    async def wait(self, timeout_s: float) -> None:
        await self._clock.sleep(timeout_s)
