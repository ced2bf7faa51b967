"""Does a step cost the same in a batch of a million items as in one of a thousand, and does memory stay flat?

Each size runs in a process of its own, its inputs from a generator and its results dropped as they come. Beside the
time by the clock stands that of the process, which other programs and the disk don't change. The last line of the
output is one JSON object. See README.md beside this file.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from bench_batch import peak_rss_mb, registry, store_for
from shape import chain

import stepflow

SIZES = (1_000, 10_000, 100_000, 1_000_000)
AT_LEAST = 20_000  # items that a size is measured over: a small batch is run often enough to tell


async def batch(engine: stepflow.Engine, flow: stepflow.Flow, items: int, slots: int) -> tuple[float, float]:
    """The seconds that a lazy batch takes, by the clock and of this process alone."""
    inputs = ({"n": n} for n in range(items))
    started, used = time.perf_counter(), time.process_time()
    count = 0
    async for result in engine.run_batch(flow, inputs, max_concurrency=slots):
        assert result.ok
        count += 1
    assert count == items
    return time.perf_counter() - started, time.process_time() - used


async def one_size(items: int, given: argparse.Namespace) -> dict[str, Any]:
    flow = stepflow.read_flow(chain(given.steps, "/noop"))
    repeats = max(1, AT_LEAST // items)
    with store_for(given.store) as store:
        async with stepflow.Engine(registry(), store=store) as engine:
            await batch(engine, flow, 500, given.max_concurrency)
            before = peak_rss_mb()
            times = [await batch(engine, flow, items, given.max_concurrency) for _ in range(repeats)]
    seconds, used = (sum(each) / repeats for each in zip(*times, strict=True))
    steps = items * given.steps
    return {
        "items": items,
        "us_per_step": round(seconds / steps * 1e6, 3),
        "cpu_us_per_step": round(used / steps * 1e6, 3),
        "steps_per_s": round(steps / seconds),
        "rss_before_mb": round(before, 1),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def in_its_own_process(items: int, given: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(items), "--store", given.store, "--steps", str(given.steps)]
    command += ["--max-concurrency", str(given.max_concurrency)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(row: dict[str, Any]) -> str:
    cost = f"{row['us_per_step']:7.2f} µs a step  {row['to_smallest']:.2f} × the smallest"
    cost += f"  (processor: {row['cpu_us_per_step']:6.2f} µs  {row['cpu_to_smallest']:.2f} ×)"
    return f"{row['items']:>9,} items  {cost}  {row['peak_rss_mb']:7.1f} MB (before: {row['rss_before_mb']:.1f})"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="memory", help="memory, sqlite, or a store's URL")
    parser.add_argument("--max-items", type=int, default=SIZES[-1])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--max-concurrency", type=int, default=100)
    parser.add_argument("--one", type=int, help="measure one size in this process")
    parser.add_argument("--json", action="store_true", help="only the JSON line, no table")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.one is not None:
        print(json.dumps(asyncio.run(one_size(given.one, given))))
        return
    found = []
    for size in SIZES:
        if size > given.max_items:
            break
        row = in_its_own_process(size, given)
        smallest = (found or [row])[0]
        for name, of in (("to_smallest", "us_per_step"), ("cpu_to_smallest", "cpu_us_per_step")):
            row[name] = round(row[of] / smallest[of], 3)
        found.append(row)
        if not given.json:
            print(line(found[-1]))
    growth = {name: found[-1][name] for name in ("to_smallest", "cpu_to_smallest", "peak_rss_mb")}
    print(json.dumps({"benchmark": "growth", "store": given.store, "steps": given.steps, **growth, "sizes": found}))


if __name__ == "__main__":
    main()
