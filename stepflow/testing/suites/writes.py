"""Writes as an engine makes them, for the suites."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from stepflow.clock import SystemChance
from stepflow.protocols import Backend
from stepflow.records import (
    DEFAULT_GROUP,
    JOURNAL_FORMAT,
    Committed,
    EngineRecord,
    Entries,
    ItemResult,
    Json,
    Lease,
    ParentLink,
    RunChange,
    RunId,
    RunRecord,
    RunStatus,
    Succeeded,
    Write,
)

T = TypeVar("T")

FLOW = "f" * 64
FIRST = Lease("engine-1", 1)
TTL_S = 300.0
_EPOCH = 1_767_225_600.0


class Ids:
    """Run ids that sort in the order in which they were drawn."""

    def __init__(self) -> None:
        self._chance = SystemChance(seed=7)
        self._now = _EPOCH

    def draw(self) -> RunId:
        self._now += 1.0
        return self._chance.run_id(self._now)


def record(
    run_id: RunId,
    *,
    root_id: RunId | None = None,
    parent: ParentLink | None = None,
    key: str | None = None,
    flow_name: str | None = None,
    group: str = DEFAULT_GROUP,
    journal_format: int = JOURNAL_FORMAT,
) -> RunRecord:
    return RunRecord(
        id=run_id,
        root_id=root_id or run_id,
        flow_id=FLOW,
        flow_name=flow_name,
        parent=parent,
        key=key,
        created_at=_EPOCH,
        total=3,
        group=group,
        journal_format=journal_format,
    )


def child(run_id: RunId, root_id: RunId, *, key: str = "k") -> RunRecord:
    """A sub-run of the root run itself."""
    return record(run_id, root_id=root_id, parent=ParentLink(run_id=root_id, item=0, step=0, key=key))


def write(
    run_id: RunId,
    first: int,
    entries: Sequence[Json],
    *,
    lease: Lease = FIRST,
    items: tuple[int, int] = (-1, -1),
    new: RunRecord | None = None,
    change: RunChange | None = None,
    results: Sequence[ItemResult] = (),
    is_checkpoint: bool = False,
    has_inputs: bool = False,
    supersedes: RunId | None = None,
) -> Write:
    return Write(
        run_id=run_id,
        lease=lease,
        first=first,
        count=len(entries),
        payload=msgspec.json.encode(entries),
        min_item=items[0],
        max_item=items[1],
        new=new,
        change=change,
        results=results,
        is_checkpoint=is_checkpoint,
        has_inputs=has_inputs,
        supersedes=supersedes,
    )


async def enter(store: Backend, owner: str, *, name: str | None = None, group: str = DEFAULT_GROUP) -> EngineRecord:
    """Make an engine known, under its owner's name unless another is given, for `TTL_S` seconds."""
    engine = EngineRecord(owner=owner, name=name or owner, group=group, started_at=_EPOCH)
    return await store.owners.enter(engine, ttl_s=TTL_S)


async def begin(store: Backend, new: RunRecord, *, lease: Lease = FIRST, supersedes: RunId | None = None) -> RunId:
    """Store a run whose journal holds one entry."""
    opening = write(new.id, 1, ["begun"], lease=lease, new=new, supersedes=supersedes)
    assert list(await store.journal.commit([opening])) == [Committed()]
    return new.id


async def end(
    store: Backend, run_id: RunId, *, lease: Lease = FIRST, at: float = 9.0, status: RunStatus = RunStatus.COMPLETED
) -> None:
    """End a run whose journal holds one entry."""
    closing = write(run_id, 2, ["ended"], lease=lease, change=RunChange(status=status, ended_at=at))
    assert list(await store.journal.commit([closing])) == [Committed()]


async def take_over(store: Backend, *root_ids: RunId, owner: str = "engine-2") -> dict[RunId, Lease]:
    """Another engine fences the first one, by having its name, and claims these runs: its leases by run."""
    await enter(store, owner, name=FIRST.owner)
    claimed = [claim for root_id in root_ids for claim in await store.owners.claim(owner, root_id=root_id)]
    return {record.id: lease for record, lease in claimed}


async def entries(store: Backend, run_id: RunId, *, after: int = 0) -> list[tuple[int, Json]]:
    """Every (position, entry) of the rows that a read gives."""
    rows: list[Entries] = list(await store.journal.read(run_id, after=after))
    return [
        (row.first + offset, entry) for row in rows for offset, entry in enumerate(msgspec.json.decode(row.payload))
    ]


def result(index: int, output: Json = None) -> ItemResult:
    return ItemResult(index, Succeeded(output))
