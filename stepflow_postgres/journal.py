"""The journal of runs in PostgreSQL."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from stepflow.errors import StoreUnavailableError
from stepflow.protocols import PAGE, ended_topic
from stepflow.records import Committed, Entries, KeyTaken, Lease, LeaseLost, RunId, Verdict, Write
from stepflow_postgres.arrays import blobs, texts
from stepflow_postgres.connection import Database, Statement
from stepflow_postgres.groups import (
    RunGroup,
    advance_parameters,
    begin_one_parameters,
    begin_parameters,
    entry_parameters,
    grouped,
    key_digest,
    one_parameters,
)
from stepflow_postgres.signals import PostgresSignals

LAST_POSITION = 2**62
"""Beyond any entry's position."""

_Refused: TypeAlias = dict[tuple[RunId, Lease], Verdict]
_COMMITTED = Committed()
_ROUNDS = 5


class PostgresJournal:
    """Writes of many runs in one statement, which says itself what it took.

    The statement is the transaction: an engine that is stopped half-way through a commit has sent all of it or nothing,
    and never holds locks that others wait for. Only where runs begin are there more statements, which go out together
    and are one transaction too: most commits begin no run, and are carried out faster without that part.
    """

    def __init__(self, database: Database, signals: PostgresSignals) -> None:
        self._database = database
        self._signals = signals

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        if not writes:
            return []
        refused: _Refused = {}
        rest: Sequence[RunGroup] = grouped(writes)
        for _ in range(_ROUNDS):
            rest = await self._take(rest, refused)
            if rest:
                rest = await self._look_again(rest, refused)
            if not rest:
                break
        else:
            raise StoreUnavailableError(f"{self._database.shown}: writes were overtaken {_ROUNDS} times in a row")
        verdicts = [refused.get((write.run_id, write.lease), _COMMITTED) for write in writes] if refused else None
        if ended := [*_ended(writes, refused)]:
            self._signals.send([ended_topic(run_id) for run_id in ended])
        return verdicts or [_COMMITTED] * len(writes)

    async def read(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[Entries]:
        return await self._read("read_entries", run_id, after, limit)

    async def history(
        self, run_id: RunId, *, after: int = 0, limit: int = PAGE, item: int | None = None
    ) -> Sequence[Entries]:
        name = "read_history" if item is None else "read_item_history"
        return await self._read(name, run_id, after, limit, item)

    async def _read(
        self, name: str, run_id: RunId, after: int, limit: int, item: int | None = None
    ) -> Sequence[Entries]:
        asked = {"run_id": run_id, "after": min(after, LAST_POSITION), "limit": limit, "item": item}
        found = await self._database.ask("find_reading", asked)
        if not found:
            return []
        no, checkpoint, low_water, begin = found[0]
        asked |= {"no": no, "checkpoint": checkpoint, "low_water": low_water, "begin": begin or 1}
        return [Entries(*row) for row in await self._database.ask(name, asked)]

    async def _take(self, groups: Sequence[RunGroup], refused: _Refused) -> Sequence[RunGroup]:
        """Store what is written for the first time under a lease that holds; the groups of which none was."""
        parts = [*_parts(groups)]
        answers = await self._database.write_all([statement for _, statement in parts])
        known = set()
        for (part, _), rows in zip(parts, answers, strict=True):
            for at, holder in rows:
                group = part[at - 1]
                if holder is None:
                    known.add(id(group))
                elif holder not in (group.run_id, group.head.supersedes):
                    refused[group.run_id, group.lease] = KeyTaken(holder)
                    known.add(id(group))
        return [group for group in groups if id(group) not in known] if len(known) < len(groups) else ()

    async def _look_again(self, groups: Sequence[RunGroup], refused: _Refused) -> Sequence[RunGroup]:
        """Why these were not taken: refused, stored before, or (what is left of) those given may be taken now."""
        ask = self._database.ask
        present = {owner for (owner,) in await ask("find_present", {"owners": texts([g.lease.owner for g in groups])})}
        rows = await ask("find_heads", {"ids": texts([group.run_id for group in groups])})
        heads = {run_id: (Lease(owner, epoch), last) for run_id, owner, epoch, last in rows}
        digests = [digest for group in groups if (digest := _digest(group)) is not None]
        holders: dict[bytes | None, RunId] = {}
        if digests:
            holders = dict(await ask("find_holders", {"digests": blobs(digests)}))

        left = []
        for group in groups:
            lease, last = heads.get(group.run_id, (None, 0))
            holder = holders.get(_digest(group))
            if group.lease.owner not in present or (lease != group.lease if lease else group.head.new is None):
                refused[group.run_id, group.lease] = LeaseLost(lease.epoch if lease else 0)
            elif lease is None and holder not in (None, group.run_id, group.head.supersedes):
                refused[group.run_id, group.lease] = KeyTaken(holder)
            elif group.drop_through(last):
                left.append(group)
        return left


def _parts(groups: Sequence[RunGroup]) -> Iterator[tuple[Sequence[RunGroup], Statement]]:
    """The statements of a commit. Each speaks for one owner, and begins at most one run of each key."""
    waves: dict[tuple[str, int], list[RunGroup]] = {}
    going_on: dict[str, list[RunGroup]] = {}
    seen: dict[bytes, int] = {}
    for group in groups:
        if group.head.new is None:
            going_on.setdefault(group.lease.owner, []).append(group)
            continue
        digest = _digest(group)
        wave = 0
        if digest is not None:
            wave = seen[digest] = seen.get(digest, -1) + 1
        waves.setdefault((group.lease.owner, wave), []).append(group)
    for part in waves.values():
        if len(part) == 1 and _digest(part[0]) is None:
            yield part, ("begin_run", begin_one_parameters(part[0]))
        else:
            yield part, ("begin_runs", begin_parameters(part))
    for part in going_on.values():
        yield part, _advance(part)


def _advance(part: Sequence[RunGroup]) -> Statement:
    if len(part) > 1 or len(part[0].writes) > 1:
        return "advance_runs", advance_parameters(part)
    write = part[0].head
    if write.results or write.change is not None or write.is_checkpoint:
        return "advance_run", one_parameters(write)
    return "append_entries", entry_parameters(write)


def _digest(group: RunGroup) -> bytes | None:
    return None if group.head.new is None else key_digest(group.head.new)


def _ended(writes: Sequence[Write], refused: _Refused) -> Iterator[RunId]:
    for write in writes:
        status = write.change.status if write.change is not None else None
        if status is not None and status.is_terminal and (write.run_id, write.lease) not in refused:
            yield write.run_id
