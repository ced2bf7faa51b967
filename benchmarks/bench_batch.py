"""How many steps a second does a batch run at, and how near does that come to the bare loop of the same shape?

The last line of the output is one JSON object. See README.md beside this file.
"""

import argparse
import asyncio
import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from durable_limit import steps_per_s as commit_limit_steps_per_s
from limit import steps_per_s as limit_steps_per_s
from peers.environments import measure
from places import Places, places_for
from shape import chain

import stepflow

UPSTREAM_ITEMS = (2_000, 20_000)
LANGGRAPH_ITEMS = 1_000


def registry() -> stepflow.Components:
    app = stepflow.Components()

    @app.component("/noop")
    async def noop(input: dict[str, Any]) -> dict[str, Any]:
        return input

    return app


def peak_rss_mb() -> float:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


@contextmanager
def store_for(kind: str) -> Iterator[str | None]:
    """What `Engine(store=…)` takes."""
    with places_for(kind) as places:
        yield places.store


async def batch(engine: stepflow.Engine, flow: stepflow.Flow, items: int, steps: int, slots: int) -> float:
    """Steps a second, from the submission to the last result, with every result read and checked."""
    inputs = [{"n": n} for n in range(items)]
    started = time.perf_counter()
    run = await engine.submit(flow, inputs, max_concurrency=slots)
    outputs = [result.output async for result in run.results()]
    elapsed = time.perf_counter() - started
    assert outputs == inputs
    return items * steps / elapsed


async def single_ms(engine: stepflow.Engine, flow: stepflow.Flow, singles: int) -> float:
    """The median time of a run of one item, nothing else running, in milliseconds."""
    times = []
    for n in range(singles):
        started = time.perf_counter()
        await engine.run(flow, {"n": n})
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


async def ours(places: Places, given: argparse.Namespace) -> dict[str, float]:
    flow = stepflow.read_flow(chain(given.steps, "/noop"))
    async with stepflow.Engine(registry(), store=places.store) as engine:
        await batch(engine, flow, min(given.items, 200), given.steps, given.max_concurrency)
        rate = await batch(engine, flow, given.items, given.steps, given.max_concurrency)
        rss = peak_rss_mb()
        p50 = await single_ms(engine, flow, given.singles)
    return {"steps_per_s": rate, "p50_ms": p50, "peak_rss_mb": rss}


def one_round(places: Places, given: argparse.Namespace) -> dict[str, float]:
    """Engine, bare loop and, of a durable store, bare group commits in turn, so that all meet the same machine."""
    shape = (given.items, given.steps, given.max_concurrency)
    found = asyncio.run(ours(places, given))
    found["limit_steps_per_s"] = limit_steps_per_s(*shape)
    found["ratio"] = found["steps_per_s"] / found["limit_steps_per_s"]
    if places.bare is not None:
        found["commit_limit_steps_per_s"] = commit_limit_steps_per_s(places.bare(), *shape)
        found["commit_ratio"] = found["steps_per_s"] / found["commit_limit_steps_per_s"]
    return found


def measure_ours(given: argparse.Namespace) -> dict[str, Any]:
    """The medians of the rounds, each with a store of its own."""
    rounds = []
    for _ in range(given.repeat):
        with places_for(given.store) as places:
            rounds.append(one_round(places, given))
    median = {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
    return {
        "benchmark": "batch",
        "store": given.store,
        "items": given.items,
        "steps": given.steps,
        "max_concurrency": given.max_concurrency,
        "rounds": given.repeat,
        "steps_per_s": round(median["steps_per_s"]),
        "runs_per_s": round(median["steps_per_s"] / given.steps),
        "p50_ms": round(median["p50_ms"], 3),
        "peak_rss_mb": round(rounds[0]["peak_rss_mb"], 1),
        "limit_steps_per_s": round(median["limit_steps_per_s"]),
        "ratio": round(median["ratio"], 3),
    } | {
        name: round(median[name], digits)
        for name, digits in (("commit_limit_steps_per_s", None), ("commit_ratio", 3))
        if name in median
    }


def measure_peers(given: argparse.Namespace) -> list[dict[str, Any]]:
    shape = ["--steps", str(given.steps), "--max-concurrency", str(given.max_concurrency)]
    sizes = sorted({min(size, given.items) for size in UPSTREAM_ITEMS})
    upstream = measure("upstream", "upstream_batch.py", *shape, "--items", *map(str, sizes))
    items = str(min(LANGGRAPH_ITEMS, given.items))
    return [*upstream, *measure("langgraph", "langgraph_batch.py", *shape, "--items", items)]


def table(found: dict[str, Any]) -> str:
    rows = [("", "items", "steps/s", "ours is", "p50 of one run")]
    ours = found["steps_per_s"]
    rows.append((f"stepflow-engine, {found['store']}", f"{found['items']:,}", f"{ours:,}", "", f"{found['p50_ms']} ms"))
    rows.append(("bare loop", f"{found['items']:,}", f"{found['limit_steps_per_s']:,}", f"{found['ratio']} ×", ""))
    if "commit_ratio" in found:
        commits, ratio = f"{found['commit_limit_steps_per_s']:,}", f"{found['commit_ratio']} ×"
        rows.append(("bare group commits", f"{found['items']:,}", commits, ratio, ""))
    for peer in found.get("peers", ()):
        p50 = f"{peer['p50_ms']} ms" if "p50_ms" in peer else ""
        name = f"{peer['peer']} {peer['version']}"
        rows.append((name, f"{peer['items']:,}", f"{peer['steps_per_s']:,}", f"{peer['ours_is']} ×", p50))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="memory", help="memory, sqlite, postgres (a server of its own), or a URL")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--max-concurrency", type=int, default=100)
    parser.add_argument("--singles", type=int, default=300, help="runs of one item whose median is p50_ms")
    parser.add_argument("--repeat", type=int, default=5, help="rounds of which the medians are given")
    parser.add_argument("--compare", action="store_true", help="run the peers too, each in an environment of its own")
    parser.add_argument("--json", action="store_true", help="only the JSON line, no table")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    found = measure_ours(given)
    if given.compare:
        peers = measure_peers(given)
        found["peers"] = [peer | {"ours_is": round(found["steps_per_s"] / peer["steps_per_s"], 2)} for peer in peers]
    if not given.json:
        print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
