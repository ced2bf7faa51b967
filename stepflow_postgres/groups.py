"""Writes of many runs as the parameters of one statement: a column an array."""

import hashlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from stepflow.records import Failed, Lease, RunChange, RunId, RunRecord, Write
from stepflow_postgres.arrays import blobs, bools, floats, ints, texts
from stepflow_postgres.escape import escaped

Parameters: TypeAlias = dict[str, object]

_encode = msgspec.json.Encoder().encode
_NOTHING = RunChange()


class RunGroup:
    """What one commit writes to one run under one lease, in the order of positions, and what all of it amounts to."""

    __slots__ = ("lease", "run_id", "writes")

    def __init__(self, run_id: RunId, lease: Lease) -> None:
        self.run_id = run_id
        self.lease = lease
        self.writes: list[Write] = []

    def add(self, write: Write) -> None:
        """One that repeats positions of those before is left out."""
        if not self.writes or write.first > self.last:
            self.writes.append(write)

    def drop_through(self, last: int) -> bool:
        """Leave out what was stored up to this position, and say whether anything is left."""
        self.writes = [write for write in self.writes if write.first > last]
        return bool(self.writes)

    @property
    def head(self) -> Write:
        return self.writes[0]

    @property
    def last(self) -> int:
        """The position of the last entry."""
        return self.writes[-1].first + self.writes[-1].count - 1

    @property
    def places(self) -> int:
        """How many items end."""
        return sum([len(write.results) for write in self.writes])

    @property
    def mark(self) -> tuple[int | None, int | None]:
        """Where the last checkpoint stands, and the first item whose inputs it spares."""
        for write in reversed(self.writes):
            if write.is_checkpoint:
                return write.first, write.min_item
        return None, None

    @property
    def change(self) -> RunChange:
        """All changes of the run's row in one; the last word counts."""
        changes = [write.change for write in self.writes if write.change is not None]
        if len(changes) < 2:
            return changes[0] if changes else _NOTHING
        new: dict[str, Any] = {}
        for change in changes:
            given = ((name, getattr(change, name)) for name in RunChange.__struct_fields__)
            new.update({name: value for name, value in given if value is not None})
        return RunChange(**new)


def grouped(writes: Sequence[Write]) -> Sequence[RunGroup]:
    """The writes by run and lease, in the order of the runs' ids: so no two statements wait each for the other."""
    groups: dict[tuple[RunId, Lease], RunGroup] = {}
    for write in writes:
        key = (write.run_id, write.lease)
        group = groups.get(key)
        if group is None:
            group = groups[key] = RunGroup(*key)
        group.add(write)
    return sorted(groups.values(), key=_run_id) if len(groups) > 1 else [*groups.values()]


def _run_id(group: RunGroup) -> RunId:
    return group.run_id


def entry_parameters(write: Write) -> Parameters:
    """For `append_entries`."""
    last = write.first + write.count - 1
    numbers = [
        *(write.lease.epoch, write.first, last, write.count, write.min_item, write.max_item, int(write.has_inputs)),
    ]
    return {"run": write.run_id, "owner": write.lease.owner, "numbers": ints(numbers), "payload": write.payload}


def one_parameters(write: Write) -> Parameters:
    """For `advance_run`."""
    change = write.change or _NOTHING
    is_checkpoint = write.is_checkpoint
    numbers = [
        *(write.lease.epoch, write.first, write.first + write.count - 1, write.count, write.min_item, write.max_item),
        *(len(write.results), write.first if is_checkpoint else None, write.min_item if is_checkpoint else None),
        *(change.total, change.succeeded, change.failed, int(write.has_inputs)),
    ]
    return {
        "run": write.run_id,
        "owner": write.lease.owner,
        "numbers": ints(numbers),
        "ended_at": floats([change.ended_at]),
        "words": texts([change.status, _text(change.error)]),
        "payload": write.payload,
        "items": ints([result.index for result in write.results]),
        "outcomes": blobs([_encode(result.outcome) for result in write.results]),
    }


def advance_parameters(groups: Sequence[RunGroup]) -> Parameters:
    """For `advance_runs`. All leases are of one owner."""
    changes = [group.change for group in groups]
    marks = [group.mark for group in groups]
    return {
        "owner": groups[0].lease.owner,
        "runs": texts([group.run_id for group in groups]),
        "epochs": ints([group.lease.epoch for group in groups]),
        "begins": ints([group.head.first for group in groups]),
        "lasts": ints([group.last for group in groups]),
        "places": ints([group.places for group in groups]),
        "marks": ints([first for first, _ in marks]),
        "low_waters": ints([item for _, item in marks]),
        **_change_columns(changes),
        **_entry_columns(groups),
        **_result_columns(groups),
    }


def begin_parameters(groups: Sequence[RunGroup]) -> Parameters:
    """For `begin_runs`. Each group begins with its run's first write; all leases are of one owner."""
    new = [_new_row(at, group) for at, group in enumerate(groups, 1)]
    return {
        "owner": groups[0].lease.owner,
        "new": _encode(new).decode(),
        **_entry_columns(groups),
        **_result_columns(groups),
    }


def begin_one_parameters(group: RunGroup) -> Parameters:
    """For `begin_run`. The group begins with its run's first write, and the run has no key."""
    row, results = _new_row(1, group), [result for write in group.writes for result in write.results]
    return {
        "owner": group.lease.owner,
        "words": texts([row.get(name) for name in _WORDS]),
        "numbers": ints([row.get(name) for name in _NUMBERS]),
        "times": floats([row["created_at"], row["ended_at"]]),
        "items": ints([result.index for result in results]),
        "outcomes": blobs([_encode(result.outcome) for result in results]),
        **_write_columns(group.writes),
    }


def digest_of(key: str) -> bytes:
    """What a key is found by, whatever its length."""
    return hashlib.sha256(key.encode()).digest()


def key_digest(record: RunRecord) -> bytes | None:
    """That of a root run's key; None: no other run can be in its way."""
    return None if record.key is None or record.parent is not None else digest_of(record.key)


def _write_columns(writes: Sequence[Write]) -> Parameters:
    return {
        "firsts": ints([write.first for write in writes]),
        "counts": ints([write.count for write in writes]),
        "min_items": ints([write.min_item for write in writes]),
        "max_items": ints([write.max_item for write in writes]),
        "inputs": bools([write.has_inputs for write in writes]),
        "checkpoints": bools([write.is_checkpoint for write in writes]),
        "payloads": blobs([write.payload for write in writes]),
    }


def _entry_columns(groups: Sequence[RunGroup]) -> Parameters:
    of = [at for at, group in enumerate(groups, 1) for _ in group.writes]
    return {"of": ints(of), **_write_columns([write for group in groups for write in group.writes])}


def _result_columns(groups: Sequence[RunGroup]) -> Parameters:
    of: list[int] = []
    items: list[int] = []
    places: list[int] = []
    outcomes: list[bytes] = []
    for at, group in enumerate(groups, 1):
        results = [result for write in group.writes for result in write.results]
        of += [at] * len(results)
        items += [result.index for result in results]
        places += range(1, len(results) + 1)
        outcomes += [_encode(result.outcome) for result in results]
    return {
        "results_of": ints(of),
        "items": ints(items),
        "item_places": ints(places),
        "outcomes": blobs(outcomes),
    }


def _change_columns(changes: Sequence[RunChange]) -> Parameters:
    return {
        "statuses": texts([change.status for change in changes]),
        "ends": floats([change.ended_at for change in changes]),
        "totals": ints([change.total for change in changes]),
        "succeeded": ints([change.succeeded for change in changes]),
        "failed": ints([change.failed for change in changes]),
        "errors": texts([_text(change.error) for change in changes]),
    }


def _new_row(at: int, group: RunGroup) -> dict[str, Any]:
    """The row of a run whose first writes are these."""
    write = group.head
    record = write.new
    assert record is not None
    digest = key_digest(record)
    parent, change, (mark, low_water) = record.parent, group.change, group.mark
    row: dict[str, Any] = {name: getattr(record, name) for name in _SAME}
    row.update({name: value for name in _CHANGED if (value := getattr(change, name)) is not None})
    row["error"] = _text(change.error or record.error)
    for name in ("flow_name", "key"):
        text = getattr(record, name)
        row[name] = None if text is None else escaped(text)
    if parent is not None:
        row["parent_run"], row["parent_item"], row["parent_step"] = parent.run_id, parent.item, parent.step
        row["parent_key"] = escaped(parent.key)
    return row | {
        "at": at,
        "group_name": escaped(record.group),
        "epoch": group.lease.epoch,
        "last": group.last,
        "places": group.places,
        "checkpoint": mark or 0,
        "low_water": low_water or 0,
        "digest": None if digest is None else digest.hex(),
        "supersedes": write.supersedes,
    }


_WORDS = (
    *("id", "root_id", "flow_id", "flow_name", "status", "parent_run", "parent_key", "error", "group_name", "retry_of"),
)
_NUMBERS = (
    *("parent_item", "parent_step", "total", "succeeded", "failed", "journal_format", "is_sealed", "epoch"),
    *("last", "places", "checkpoint", "low_water"),
)
_CHANGED = ("status", "ended_at", "total", "succeeded", "failed")
_SAME = (*_CHANGED, "id", "root_id", "flow_id", "created_at", "journal_format", "retry_of", "is_sealed")


def _text(value: Failed | None) -> str | None:
    return None if value is None else _encode(value).decode()
