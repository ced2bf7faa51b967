"""Who serves which queue, as people are shown it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum

import msgspec

from stepflow_grpc.address import DEFAULT
from stepflow_grpc.pools.pools import PoolState
from stepflow_grpc.questions import QueueState
from stepflow_grpc.queues.records import QueueStatistics, Statistics, WorkerKind

CONNECTS_WITHIN_S = 30.0
"""A worker that runs for longer without being connected is said to be silent."""


class Service(Enum):
    """How a queue is served."""

    SERVED = "served"
    PARTLY = "partly"  # fewer workers are connected than its pools have
    STARTING = "starting"
    CRASHING = "crashing"
    SILENT = "silent"  # the workers of its pools run, and do not connect
    UNSERVED = "unserved"


class QueueRow(msgspec.Struct, frozen=True):
    """One queue."""

    queue: str
    routes: tuple[str, ...] = ()  # that lead to it
    workers: int = 0  # that are connected
    slots: int = 0
    pools: tuple[PoolState, ...] = ()

    @property
    def expected(self) -> int:
        """How many workers its pools have."""
        return sum(state.pool.replicas for state in self.pools)

    @property
    def service(self) -> Service:
        if self.workers >= max(self.expected, 1):
            return Service.SERVED
        if any(state.crashing for state in self.pools):
            return Service.CRASHING
        if self.workers:
            return Service.PARTLY
        if not self.pools:
            return Service.UNSERVED
        is_silent = all(state.oldest_s > CONNECTS_WITHIN_S for state in self.pools)
        return Service.SILENT if is_silent else Service.STARTING


def queue_rows(
    routes: Mapping[str, Sequence[str]], statistics: Sequence[QueueStatistics], pools: Sequence[PoolState]
) -> list[QueueRow]:
    """The queues that matter to somebody: a route leads there, a pool serves it, or a worker is connected.

    Args:
        routes: by queue, in the order to show.
    """
    known = {each.name: each for each in statistics}
    names = dict.fromkeys((*routes, *(state.pool.queue for state in pools), *known))
    rows = [
        QueueRow(
            name,
            tuple(dict.fromkeys(routes.get(name, ()))),
            known[name].workers if name in known else 0,
            known[name].slots if name in known else 0,
            tuple(state for state in pools if state.pool.queue == name),
        )
        for name in names
    ]
    return [row for row in rows if row.routes or row.pools or row.workers]


def queue_states(rows: Sequence[QueueRow], statistics: Statistics, url: str, *, server: str = "") -> list[QueueState]:
    """The same with what waits in each queue. Workers of ours have a slot for all that they are sent, and are at it.

    Args:
        url: of the server, where workers start beside it.
        server: the same, as other machines know it.
    """
    known = {each.name: each for each in statistics.queues}
    sent: Counter[str] = Counter()
    for worker in statistics.workers:
        if worker.kind is WorkerKind.OURS:
            sent.update(dict.fromkeys(worker.queues, worker.unclaimed))
    app, found = _app(rows), []
    for row in rows:
        now = known.get(row.queue)
        found.append(
            QueueState(
                queue=row.queue,
                server=server,
                routes=row.routes,
                workers=row.workers,
                expected=row.expected,
                slots=row.slots,
                busy=0 if now is None else now.claimed + sent[row.queue],
                waiting=0 if now is None else max(0, now.depth - sent[row.queue]),
                oldest_s=0.0 if now is None else now.oldest_s,
                remark=remark(row, app, url),
            )
        )
    return found


def why_unserved(row: QueueRow) -> str | None:
    """What the pools of a queue have to do with it that it has no worker; None: nothing to tell."""
    match row.service:
        case Service.CRASHING | Service.SILENT if not row.workers:
            return _trouble(row)
        case _:
            return None


def table(rows: Sequence[QueueRow], url: str = DEFAULT) -> list[str]:
    """Lines of aligned columns, the last of which says what is amiss and what to type; empty: there is no queue."""
    if not rows:
        return []
    cells = [("QUEUE", "ROUTES", "WORKERS", "SLOTS", "")]
    app = _app(rows)
    cells += [
        (
            row.queue,
            " ".join(row.routes) or "none",
            f"{row.workers} of {row.expected}" if row.expected else str(row.workers),
            str(row.slots),
            remark(row, app, url),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return [
        "  ".join((*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4])).rstrip()
        for line in cells
    ]


def change(row: QueueRow, rows: Sequence[QueueRow], url: str = DEFAULT) -> str:
    """One line on how a queue is now."""
    more = remark(row, _app(rows), url)
    if not row.workers:
        return f"queue {row.queue}: {more}"
    of = f" of {row.expected}" if row.expected > row.workers else ""
    noun = "worker" if max(row.workers, row.expected) == 1 else "workers"
    slots = "1 slot" if row.slots == 1 else f"{row.slots} slots"
    return f"queue {row.queue}: {row.workers}{of} {noun}, {slots}{f'; {more}' if more else ''}"


def remark(row: QueueRow, app: str, url: str) -> str:
    """What is amiss with a queue and what to do; empty: nothing."""
    match row.service:
        case Service.UNSERVED:
            at = "" if url == DEFAULT else f" --tasks-url {url}"
            return f"nobody serves it; type: stepflow worker {app} --queue {row.queue}{at}"
        case Service.CRASHING | Service.SILENT:
            return _trouble(row)
        case Service.STARTING:
            return "starting"
        case Service.PARTLY | Service.SERVED:
            return "" if row.routes else "no route leads to it"


def _app(rows: Sequence[QueueRow]) -> str:
    """What a worker could serve: what those of a pool do."""
    apps = [state.pool.app for row in rows for state in row.pools if state.pool.app is not None]
    return apps[0] if apps else "MODULE:APP"


def _trouble(row: QueueRow) -> str:
    if row.service is Service.SILENT:
        running = sum(state.running for state in row.pools)
        return f"its pool has not connected within {CONNECTS_WITHIN_S:g} s ({running} of {row.expected} workers run)"
    crashing = sum(state.crashing for state in row.pools)
    deaths = [state.last_death for state in row.pools if state.last_death is not None]
    last = max(deaths, key=lambda death: death.at)
    return f"its pool crashes as it starts: {last.reason} ({crashing} of {row.expected} workers)"
