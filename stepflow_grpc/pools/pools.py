"""The pools of one server."""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import count

import msgspec

from stepflow.protocols import Chance, Clock
from stepflow_grpc.pools.guard import Guard
from stepflow_grpc.pools.pool import Pool, PoolError
from stepflow_grpc.pools.replica import Replica, Surroundings
from stepflow_grpc.pools.restarts import Death

logger = logging.getLogger("stepflow.pools")

ORPHANED_S = 5.0
"""How long workers may take to end when their server has died."""

BEFORE_S = 1.0
"""How long before they are killed our workers give back the tasks that they have not ended."""

KILLED_S = 2.0
"""How long a process that is killed may take to go."""


class PoolState(msgspec.Struct, frozen=True):
    """How a pool is."""

    pool: Pool
    running: int  # of its replicas
    crashing: int  # of its replicas, those that died soon after each of their last starts
    deaths: int
    oldest_s: float  # how long the longest of those that run has been running
    last_death: Death | None = None
    restarts_at: float | None = None  # when the next of those that do not run starts, as the clock says


class Pools:
    """Starts the workers of pools, keeps them running, and stops them.

    Args:
        grace_s: how long they may take for the tasks that they are at, once they are to stop.

    Raises:
        PoolError: on Windows, which has no process groups.
    """

    def __init__(self, pools: Sequence[Pool], *, clock: Clock, chance: Chance, grace_s: float) -> None:
        if pools and sys.platform == "win32":
            raise PoolError("pools need process groups, which this system has not; start workers by hand")
        self._pools = tuple(pools)
        self._clock = clock
        self._chance = chance
        self._grace_s = grace_s
        self._guard = Guard(ORPHANED_S)
        self._replicas: list[list[Replica]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, tasks_url: str, env: Mapping[str, str], say: Callable[[str], Awaitable[None]]) -> None:
        """Start every worker, and wait for none of them to connect.

        Args:
            tasks_url: where they find the server, as host:port.
            env: variables that they need beside its address and those that this process has.
            say: takes what a worker wrote: a line, or several at once.
        """
        if not self._pools:
            return
        await self._guard.start()
        patience = {"STEPFLOW_SHUTDOWN_GRACE_SECS": f"{max(self._grace_s - BEFORE_S, 0):g}"}
        around = Surroundings(tasks_url, {**os.environ, **patience, **env}, self._clock, self._chance, self._guard, say)
        numbers = {pool.queue: count(1) for pool in self._pools}
        self._replicas = [
            [Replica(pool, next(numbers[pool.queue]), around) for _ in range(pool.replicas)] for pool in self._pools
        ]
        self._tasks = [asyncio.create_task(_kept(replica)) for replica in self._all()]

    async def stop(self) -> None:
        """Ask all workers to end, and kill those that have not after the grace."""
        if not self._tasks:
            return
        for replica in self._all():
            replica.stop()
        try:
            _, late = await asyncio.wait(self._tasks, timeout=self._grace_s)
            if late:
                text = "%d of %d workers did not end within %g s and are killed"
                logger.warning(text, len(late), len(self._tasks), self._grace_s)
        finally:
            for replica in self._all():
                replica.kill()
        _, late = await asyncio.wait(self._tasks, timeout=KILLED_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._guard.stop()

    def note_connected(self, worker_ids: Collection[str]) -> None:
        """These workers, among others perhaps, are connected."""
        for replica in self._all():
            if replica.worker_id in worker_ids:
                replica.connected()

    def states(self) -> list[PoolState]:
        """How each pool is, in the order they were given."""
        if not self._replicas:
            return [PoolState(pool, 0, 0, 0, 0.0) for pool in self._pools]
        return [_state(pool, replicas) for pool, replicas in zip(self._pools, self._replicas, strict=True)]

    def _all(self) -> list[Replica]:
        return [replica for replicas in self._replicas for replica in replicas]


async def _kept(replica: Replica) -> None:
    try:
        await replica.run()
    except Exception:
        logger.exception("a worker is no longer looked after")
        replica.kill()


def _state(pool: Pool, replicas: Sequence[Replica]) -> PoolState:
    deaths = [replica.last_death for replica in replicas if replica.last_death is not None]
    restarts = [replica.restarts_at for replica in replicas if replica.restarts_at is not None]
    return PoolState(
        pool,
        running=sum(replica.pid is not None for replica in replicas),
        crashing=sum(replica.is_crashing for replica in replicas),
        deaths=sum(replica.deaths for replica in replicas),
        oldest_s=max((replica.lived_s() for replica in replicas), default=0.0),
        last_death=max(deaths, key=lambda death: death.at, default=None),
        restarts_at=min(restarts, default=None),
    )
