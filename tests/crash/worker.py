"""A process with one engine that submits jobs to itself, to be killed by whoever started it.

It asks for the jobs of its own slot only: those of its former lives that nobody saw the end of, then new ones. On
"drain" it takes no more, says "drained" when its own have ended, and leaves when its stdin is closed.
"""

# ruff: noqa: T201

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import jobs
from ledger import Accepted, Asked, Done, Ledger, read_ledger

import stepflow
from stepflow.errors import StoreUnavailableError
from stepflow.execution.verdict import RetrySettings


class Slot:
    """The jobs of one worker and its former lives: every `slots`-th number."""

    def __init__(self, slot: int, slots: int, ledger: Path) -> None:
        lines = read_ledger(ledger)
        done = {line.job for line in lines if isinstance(line, Done)}
        asked = {line.job for line in lines if isinstance(line, Asked) and line.job % slots == slot}
        self._step = slots
        self._next = max(asked, default=slot - slots) + slots
        self._unfinished = sorted(asked - done, reverse=True)
        self.is_draining = asyncio.Event()

    def take(self) -> int | None:
        """The next job; None: there are no more."""
        if self._unfinished:
            return self._unfinished.pop()
        if self.is_draining.is_set():
            return None
        self._next += self._step
        return self._next - self._step


async def work(engine: stepflow.Engine, slot: Slot, ledger: Ledger) -> None:
    while (job := slot.take()) is not None:
        while True:
            try:
                await one_job(engine, job, ledger)
                break
            except StoreUnavailableError:
                await asyncio.sleep(0.2)


async def one_job(engine: stepflow.Engine, job: int, ledger: Ledger) -> None:
    """Submit it under its key, which finds it again where a former life did, and read all that comes of it."""
    ledger.write(Asked(ledger.engine, job, time.time()))
    flow, inputs = jobs.flow_of(job), jobs.inputs_of(job)
    run = await engine.submit(flow, inputs, key=jobs.key_of(job), max_concurrency=8)
    ledger.write(Accepted(ledger.engine, job, run.id, time.time()))
    await run.wait()
    outputs = [result.output async for result in run.results()]
    ledger.write(Done(ledger.engine, job, outputs == jobs.outputs_of(job), time.time()))


async def main(given: argparse.Namespace) -> None:
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    ledger = Ledger(given.ledger, given.engine)
    slot = Slot(given.slot, given.slots, given.ledger)
    async with opened(ledger, given) as engine:
        print("open", flush=True)
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(work(engine, slot, ledger)) for _ in range(given.at_once)]
            await stdin.readline()
            slot.is_draining.set()
            await asyncio.wait(working)
        print("drained", flush=True)
        await stdin.readline()


@asynccontextmanager
async def opened(ledger: Ledger, given: argparse.Namespace) -> AsyncIterator[stepflow.Engine]:
    """The engine, once its store answers."""
    retry = RetrySettings(recovery_max=1_000_000)  # the same step may be unlucky any number of times
    async with AsyncExitStack() as stack:
        while True:
            engine = stepflow.Engine(jobs.components(ledger), store=given.store, name=f"slot-{given.slot}", retry=retry)
            try:
                await stack.enter_async_context(engine)
                break
            except StoreUnavailableError:
                await asyncio.sleep(0.2)
        yield engine


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--engine", required=True, help="what the ledger calls this life of the worker")
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=4, help="jobs that are open at the same time")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
