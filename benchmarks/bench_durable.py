"""How many durable steps a second does a batch run at, how near is that to bare group commits, and how does DBOS do?

Everything is measured in one run on the same disk or server. The last line of the output is one JSON object. See
README.md beside this file.
"""

import argparse
import asyncio
import json
import statistics
from typing import Any

from bench_batch import batch, peak_rss_mb, registry
from durable_limit import steps_per_s as limit_steps_per_s
from peers.environments import measure
from places import Places, places_for
from shape import chain

import stepflow


async def ours(places: Places, given: argparse.Namespace) -> dict[str, float]:
    flow = stepflow.read_flow(chain(given.steps, "/noop"))
    async with stepflow.Engine(registry(), store=places.store) as engine:
        await batch(engine, flow, min(given.items, 200), given.steps, given.max_concurrency)
        rate = await batch(engine, flow, given.items, given.steps, given.max_concurrency)
        return {"steps_per_s": rate, "peak_rss_mb": peak_rss_mb()}


def measure_ours(places: Places, given: argparse.Namespace) -> dict[str, Any]:
    """Engine and bare loop in turn, so that both meet the same machine; medians of each."""
    assert places.bare is not None
    rounds = []
    for _ in range(given.repeat):
        found = asyncio.run(ours(places, given))
        limit = limit_steps_per_s(places.bare(), given.items, given.steps, given.max_concurrency)
        rounds.append(found | {"limit_steps_per_s": limit, "ratio": found["steps_per_s"] / limit})
    return {
        "benchmark": "durable",
        "store": places.kind,
        "items": given.items,
        "steps": given.steps,
        "max_concurrency": given.max_concurrency,
        "rounds": given.repeat,
        "steps_per_s": round(statistics.median(found["steps_per_s"] for found in rounds)),
        "limit_steps_per_s": round(statistics.median(found["limit_steps_per_s"] for found in rounds)),
        "ratio": round(statistics.median(found["ratio"] for found in rounds), 3),
        "peak_rss_mb": round(rounds[0]["peak_rss_mb"], 1),
    }


def measure_peers(places: Places, given: argparse.Namespace) -> list[dict[str, Any]]:
    shape = ["--items", str(given.peer_items), "--steps", str(given.steps)]
    shape += ["--max-concurrency", str(given.max_concurrency)]
    return measure("dbos", "dbos_durable.py", "--url", places.peer, *shape)


def table(found: dict[str, Any]) -> str:
    rows = [("", "items", "steps/s", "ours is")]
    rows.append((f"stepflow-engine on {found['store']}", f"{found['items']:,}", f"{found['steps_per_s']:,}", ""))
    rows.append(("bare group commits", f"{found['items']:,}", f"{found['limit_steps_per_s']:,}", f"{found['ratio']} ×"))
    for peer in found["peers"]:
        name = f"{peer['peer']} {peer['version']}, {peer['form']}"
        rows.append((name, f"{peer['items']:,}", f"{peer['steps_per_s']:,}", f"{peer['ours_is']} ×"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="sqlite", help="sqlite, postgres (a server of its own) or postgresql://…")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--peer-items", type=int, default=2_000)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--max-concurrency", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3, help="rounds of which the medians are given")
    parser.add_argument("--no-peers", action="store_true", help="leave DBOS out")
    parser.add_argument("--json", action="store_true", help="only the JSON line, no table")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    with places_for(given.store) as places:
        if places.bare is None:
            raise SystemExit("a store in memory is not durable: see bench_batch.py")
        found = measure_ours(places, given)
        peers = [] if given.no_peers else measure_peers(places, given)
    found["peers"] = [peer | {"ours_is": round(found["steps_per_s"] / peer["steps_per_s"], 1)} for peer in peers]
    if not given.json:
        print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
