"""A process that writes to a store as a busy engine would, until it is refused; then it begins anew as another engine.

`python writer_process.py URL LEDGER` prints `entered OWNER` and, at the end of each life, `lost OWNER`. The ledger gets
a line `RUN POSITION` for each write that the store took. A store that is away for a while is asked again.
"""

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from stepflow.clock import SystemChance, SystemClock
from stepflow.errors import StoreUnavailableError
from stepflow.protocols import Backend
from stepflow.records import Committed, EngineRecord, ItemResult, Lease, RunId, RunRecord, Succeeded, Verdict, Write
from stepflow.stores.open import open_store

RUNS = 8  # that are written to at once
TTL_S = 3_600.0


class Writer:
    """One life of an engine: begins runs and goes on with them, many in a commit."""

    def __init__(self, store: Backend, owner: str, ledger: Path) -> None:
        self.owner = owner
        self._store = store
        self._ledger = ledger
        self._lease = Lease(owner, 1)
        self._chance = SystemChance()
        self._random = random.Random(owner)
        self._positions: dict[RunId, int] = {}

    async def write_until_refused(self) -> None:
        while True:
            writes = self._next()
            verdicts = await commit(self._store, writes)
            taken = [write for write, verdict in zip(writes, verdicts, strict=True) if verdict == Committed()]
            with self._ledger.open("a") as file:
                file.writelines(f"{write.run_id} {write.first}\n" for write in taken)
            if len(taken) < len(writes):
                return

    def _next(self) -> Sequence[Write]:
        if len(self._positions) < RUNS or self._random.random() < 0.2:
            self._positions[self._chance.run_id(SystemClock().now())] = 0
        while len(self._positions) > RUNS:
            del self._positions[next(iter(self._positions))]
        return [self._write(run_id) for run_id in self._positions]

    def _write(self, run_id: RunId) -> Write:
        self._positions[run_id] = position = self._positions[run_id] + 1
        text = "x" * self._random.choice((10, 1_000, 100_000))
        return Write(
            run_id=run_id,
            lease=self._lease,
            first=position,
            count=1,
            payload=f'["{position} {text}"]'.encode(),
            results=[ItemResult(position, Succeeded(position))],
            new=RunRecord(id=run_id, root_id=run_id, flow_id="f" * 64) if position == 1 else None,
        )


async def commit(store: Backend, writes: Sequence[Write]) -> Sequence[Verdict]:
    """Repeated until the store answers."""
    while True:
        try:
            return await store.journal.commit(writes)
        except StoreUnavailableError:
            await asyncio.sleep(0.05)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(url: str, ledger: Path) -> None:
    life = 0
    async with open_store(url) as store:
        while True:
            life += 1
            writer = Writer(store, f"writer-{os.getpid()}-{life}", ledger)
            await store.owners.enter(EngineRecord(owner=writer.owner, name=writer.owner), ttl_s=TTL_S)
            say(f"entered {writer.owner}")
            await writer.write_until_refused()
            say(f"lost {writer.owner}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
