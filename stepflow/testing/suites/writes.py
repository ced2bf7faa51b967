"""Writes as an engine makes them, for the suites."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from stepflow.clock import SystemChance
from stepflow.protocols import Backend
from stepflow.records import (
    DEFAULT_GROUP,
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
    Succeeded,
    Write,
)

T = TypeVar("T")

FLOW = "f" * 64
FIRST = Lease("engine-1", 1)
TTL_S = 30.0
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
    )


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


async def enter(store: Backend, owner: str, *, name: str = "engine", group: str = DEFAULT_GROUP) -> EngineRecord:
    """Make an engine known. One of the same name is fenced by it, and in a store for one engine every other."""
    engine = EngineRecord(owner=owner, name=name, group=group, started_at=_EPOCH)
    return await store.owners.enter(engine, ttl_s=TTL_S)


async def begin(store: Backend, new: RunRecord, *, lease: Lease = FIRST, supersedes: RunId | None = None) -> RunId:
    """Store a run whose journal holds one entry."""
    opening = write(new.id, 1, ["begun"], lease=lease, new=new, supersedes=supersedes)
    assert list(await store.journal.commit([opening])) == [Committed()]
    return new.id


async def take_over(store: Backend, *root_ids: RunId, owner: str = "engine-2") -> dict[RunId, Lease]:
    """The leases of another engine that fences the first one and claims these runs, with their sub-runs."""
    await enter(store, owner)
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
