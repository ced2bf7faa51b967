"""The batch and the sequence in DBOS, on SQLite or PostgreSQL. Runs in an environment of its own.

DBOS has coroutines and plain functions; both are measured, each in its fastest known use: coroutines under one
semaphore, functions in threads.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import Any

from dbos import DBOS

THREADS = 16
Item = dict[str, int]


@DBOS.step()
async def noop(input: Item) -> Item:
    return input


@DBOS.workflow()
async def chain(input: Item, steps: int) -> Item:
    for _ in range(steps):
        input = await noop({"n": input["n"]})
    return input


@DBOS.step()
def plain_noop(input: Item) -> Item:
    return input


@DBOS.workflow()
def plain_chain(input: Item, steps: int) -> Item:
    for _ in range(steps):
        input = plain_noop({"n": input["n"]})
    return input


async def in_coroutines(inputs: list[Item], steps: int, slots: int) -> list[Item]:
    free = asyncio.Semaphore(slots)

    async def one(input: Item) -> Item:
        async with free:
            return await chain(input, steps)

    return await asyncio.gather(*map(one, inputs))


async def in_threads(inputs: list[Item], steps: int, slots: int) -> list[Item]:
    def run() -> list[Item]:
        with ThreadPoolExecutor(min(slots, THREADS)) as pool:
            return list(pool.map(partial(plain_chain, steps=steps), inputs))

    return await asyncio.to_thread(run)


Batch = Callable[[list[Item], int, int], Awaitable[list[Item]]]
FORMS: dict[str, Batch] = {"coroutines": in_coroutines, "threads": in_threads}


async def batch(form: str, items: int, steps: int, slots: int) -> dict[str, Any]:
    inputs = [{"n": n} for n in range(items)]
    await FORMS[form](inputs[:20], steps, slots)
    started = time.perf_counter()
    outputs = await FORMS[form](inputs, steps, slots)
    elapsed = time.perf_counter() - started
    assert outputs == inputs
    return {"form": form, "items": items, "steps": steps, "steps_per_s": round(items * steps / elapsed)}


async def singles(count: int, steps: int) -> dict[str, Any]:
    """One workflow after the other, nothing else running."""
    times = []
    for n in range(count + 5):
        started = time.perf_counter()
        await chain({"n": n}, steps)
        times.append((time.perf_counter() - started) * 1000)
    cuts = statistics.quantiles(times[5:], n=100)
    return {"steps": steps, "singles": count, "p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3)}


async def measure(given: argparse.Namespace) -> None:
    name = f"DBOS on {'SQLite' if given.url.startswith('sqlite') else 'PostgreSQL'}"
    peer = {"peer": name, "version": version("dbos")}
    DBOS.launch()
    for steps in given.steps:
        if given.items:
            for form in FORMS:
                print(json.dumps(peer | await batch(form, given.items, steps, given.max_concurrency)), flush=True)
        if given.singles:
            print(json.dumps(peer | await singles(given.singles, steps)), flush=True)
    DBOS.destroy()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="sqlite:///… or postgresql://…")
    parser.add_argument("--items", type=int, default=0)
    parser.add_argument("--singles", type=int, default=0)
    parser.add_argument("--steps", type=int, nargs="+", default=[3])
    parser.add_argument("--max-concurrency", type=int, default=100)
    given = parser.parse_args()
    DBOS(
        config={
            "name": "bench",
            "system_database_url": given.url,
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    asyncio.run(measure(given))


if __name__ == "__main__":
    main()
