"""Journals written by hand into real stores."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stepflow.execution.events import (
    Checkpointed,
    Event,
    InputsClosed,
    ItemEnded,
    ItemsAdmitted,
    RunEnded,
    RunStarted,
    encode_events,
)
from stepflow.flow.identity import canonical_flow
from stepflow.flow.read import flow_from_json
from stepflow.history.reading import Reading
from stepflow.history.records import History, SubRuns
from stepflow.history.summary import history_of
from stepflow.protocols import Backend
from stepflow.records import (
    BlobType,
    Committed,
    EngineRecord,
    Failed,
    Lease,
    RunChange,
    RunId,
    RunRecord,
    RunStatus,
    Write,
    blob_id,
)
from stepflow.stores.memory import MemoryBackend
from stepflow.stores.open import open_store

RUN = "019aae00-0000-7000-8000-000000000001"
BEGAN = 1_700_000_000.0

FLOW: dict[str, Any] = {
    "name": "mail",
    "steps": [
        {"id": "load", "component": "/load", "input": {"$input": "$"}},
        {"id": "rank", "component": "/ml/rank", "input": {"$step": "load"}},
    ],
    "output": {"$step": "rank"},
}


class Hand:
    """Writes what an engine would."""

    def __init__(self, backend: Backend, flow: dict[str, Any]) -> None:
        self.backend = backend
        self.flow = flow
        self.content = canonical_flow(flow_from_json(flow)).encode()
        self.flow_id = blob_id(self.content)
        self.lease = Lease("engine-1", 1)
        self._last: dict[RunId, int] = {}

    async def enter(
        self, owner: str = "engine-1", *, name: str = "one", ttl_s: float = 6.0, url: str | None = None
    ) -> None:
        await self.backend.blobs.put(self.content, BlobType.FLOW)
        engine = EngineRecord(owner=owner, name=name, place=f"host {name}", started_at=BEGAN, url=url)
        await self.backend.owners.enter(engine, ttl_s=ttl_s)

    def started(self, run_id: RunId = RUN, **fields: Any) -> RunStarted:
        fields = {"root_id": run_id, "flow_name": "mail", "owner": self.lease.owner, **fields}
        return RunStarted(run_id=run_id, flow_id=self.flow_id, started_at=BEGAN, **fields)

    async def begin(self, *events: Event, inputs: int = 1, run_id: RunId = RUN, **fields: Any) -> None:
        """A run with that many inputs, all admitted at once."""
        record = RunRecord(
            id=run_id,
            root_id=fields.get("root_id", run_id),
            flow_id=self.flow_id,
            flow_name="mail",
            parent=fields.get("parent"),
            key=fields.get("key"),
            created_at=BEGAN,
            total=inputs,
        )
        start = self.started(run_id, **fields)
        admitted = (ItemsAdmitted(0, list(range(inputs))), InputsClosed(inputs))
        await self.write(start, *admitted, *events, run_id=run_id, new=record)

    async def write(
        self, *events: Event, run_id: RunId = RUN, new: RunRecord | None = None, change: RunChange | None = None
    ) -> None:
        first = self._last.get(run_id, 0) + 1
        rows = _rows(events)
        writes = []
        for place, row in enumerate(rows):
            writes.append(_write(run_id, self.lease, first, row, new if place == 0 else None))
            first += len(row)
        self._last[run_id] = first - 1
        writes[-1] = msgspec.structs.replace(writes[-1], change=change or _change(events))
        assert list(await self.backend.journal.commit(writes)) == [Committed()] * len(writes)


def _rows(events: Sequence[Event]) -> list[list[Event]]:
    """Inputs and checkpoints stand in rows of their own."""
    rows: list[list[Event]] = []
    for event in events:
        alone = isinstance(event, ItemsAdmitted | Checkpointed)
        if not rows or alone or isinstance(rows[-1][0], ItemsAdmitted | Checkpointed):
            rows.append([])
        rows[-1].append(event)
    return rows


def _write(run_id: RunId, lease: Lease, first: int, row: list[Event], new: RunRecord | None) -> Write:
    items = [event.item for event in row if hasattr(event, "item")]
    head = row[0]
    low, high = (min(items), max(items)) if items else (-1, -1)
    if isinstance(head, ItemsAdmitted):
        low, high = head.first, head.first + len(head.inputs) - 1
    if isinstance(head, Checkpointed):
        low = head.low_water
    return Write(
        run_id=run_id,
        lease=lease,
        first=first,
        count=len(row),
        payload=encode_events(row),
        min_item=low,
        max_item=high,
        is_checkpoint=isinstance(head, Checkpointed),
        has_inputs=isinstance(head, ItemsAdmitted),
        new=new,
    )


def _change(events: Sequence[Event]) -> RunChange | None:
    ends = [event for event in events if isinstance(event, ItemEnded)]
    last = events[-1]
    if isinstance(last, RunEnded):
        failed = sum(isinstance(end.outcome, Failed) for end in ends)
        return RunChange(
            status=RunStatus(last.status),
            ended_at=BEGAN + last.at / 1_000,
            succeeded=len(ends) - failed,
            failed=failed,
            error=last.error,
        )
    return None


def told(
    *events: Event, flow: dict[str, Any] | None = None, sub_runs: SubRuns | None = None, missing: int = 0, **fields: Any
) -> History:
    """The history that these events come to, after a start with as many inputs as `total` says."""
    flow = FLOW if flow is None else flow
    total = fields.setdefault("total", 1)
    read = flow_from_json(flow)
    reading = Reading(read)
    start = RunStarted(RUN, RUN, "f" * 64, BEGAN, flow_name=flow["name"], owner="engine-1")
    reading.tally.apply_all([start, ItemsAdmitted(0, [None] * (total or 0)), *events])
    ends = [event for event in events if isinstance(event, ItemEnded)]
    failed = sum(isinstance(end.outcome, Failed) for end in ends)
    last = events[-1] if events else None
    if isinstance(last, RunEnded):
        fields = {"status": last.status, "ended_at": BEGAN + last.at / 1_000, "error": last.error, **fields}
    fields = {"succeeded": len(ends) - failed, "failed": failed, **fields}
    record = RunRecord(id=RUN, root_id=RUN, flow_id="f" * 64, flow_name=flow["name"], created_at=BEGAN, **fields)
    return history_of(reading.tally, record, flow=read, sub_runs=sub_runs or SubRuns(), missing=missing)


@pytest.fixture
def tell() -> Callable[..., History]:
    return told


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """In memory, unless a test asks for `sqlite` by an indirect parameter."""
    kind = getattr(request, "param", "memory")
    return MemoryBackend(keep_events=True) if kind == "memory" else open_store(tmp_path / "runs.db")


@pytest.fixture
def make_hand() -> Callable[..., Any]:
    """`async with make_hand(backend) as it:` opens the store and enters an engine."""

    @asynccontextmanager
    async def opened(backend: Backend, flow: dict[str, Any] = FLOW) -> AsyncIterator[Hand]:
        async with backend:
            it = Hand(backend, flow)
            await it.enter()
            yield it

    return opened


@pytest.fixture
def hand(backend: Backend, make_hand: Callable[..., Any]) -> Callable[..., Any]:
    """The same with the store of the test."""
    return lambda flow=FLOW: make_hand(backend, flow)
