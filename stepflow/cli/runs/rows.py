"""Runs as rows of a table, and as JSON."""

import time
from collections.abc import Sequence

import msgspec

from stepflow.history.words import duration
from stepflow.protocols import Backend
from stepflow.records import EngineRecord, Json, RunRecord


async def owner_of(backend: Backend, record: RunRecord) -> EngineRecord | None:
    """The engine that drives a run; None: nobody does, or it has ended."""
    if record.status.is_terminal:
        return None
    ownership = await backend.owners.ownership(record.id)
    return None if ownership is None else ownership.engine


def owner_text(record: RunRecord, owner: EngineRecord | None) -> str:
    if record.status.is_terminal:
        return ""
    if owner is None:
        return "nobody"
    name = "" if owner.name == owner.owner else owner.name
    return " ".join(filter(None, (name, owner.place))) or owner.owner


def items_text(record: RunRecord) -> str:
    """`412/1,000`, or `412/…` while inputs are still coming."""
    total = "…" if record.total is None else f"{record.total:,}"
    return f"{record.succeeded + record.failed:,}/{total}"


def row_of(record: RunRecord, short: str, owner: EngineRecord | None, now: float) -> Sequence[str]:
    took = (record.ended_at or now) - record.created_at
    return (
        short,
        record.flow_name or record.flow_id[:8],
        record.status.value,
        items_text(record),
        f"{record.failed:,}",
        duration(max(0.0, now - record.created_at)),
        duration(max(0.0, took)),
        owner_text(record, owner),
    )


HEADS = ("RUN", "FLOW", "STATUS", "ITEMS", "FAILED", "AGE", "TOOK", "OWNER")


def as_json(record: RunRecord, owner: EngineRecord | None) -> dict[str, Json]:
    """The keys are documented and stay."""
    engine: dict[str, Json] | None = None
    if owner is not None:
        engine = {"owner": owner.owner, "name": owner.name, "place": owner.place, "url": owner.url}
    return {
        "run_id": record.id,
        "root_id": record.root_id,
        "flow_id": record.flow_id,
        "flow_name": record.flow_name,
        "status": record.status.value,
        "key": record.key,
        "group": record.group,
        "created_at": record.created_at,
        "ended_at": record.ended_at,
        "total": record.total,
        "succeeded": record.succeeded,
        "failed": record.failed,
        "cancelled": record.cancelled,
        "error": None if record.error is None else msgspec.to_builtins(record.error),
        "retry_of": record.retry_of,
        "owner": engine,
    }


def now_s() -> float:
    return time.time()


def json_line(value: object) -> str:
    return msgspec.json.encode(value).decode()
