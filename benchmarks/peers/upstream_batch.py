"""The batch on the reference's Rust server, its builtin no-op in its own memory. Runs in an environment of its own.

The server listens on a port that the system chooses and ends with this script.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stepflow_py import StepflowClient
from stepflow_py.config import BuiltinPluginConfig, InMemoryStoreConfig, RouteRule, StepflowConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from shape import chain


def config() -> StepflowConfig:
    return StepflowConfig(
        plugins={"builtin": BuiltinPluginConfig()},
        routes={"/builtin": [RouteRule(plugin="builtin")]},
        storageConfig=InMemoryStoreConfig(),
    )


async def measure(sizes: list[int], steps: int, slots: int, singles: int) -> list[dict[str, Any]]:
    """A server of its own for each size: it slows down with what it remembers."""
    found = []
    for items in sizes:
        async with StepflowClient.local(config(), log_level="error") as client:
            flow_id = (await client.store_flow(chain(steps, "/builtin/noop"))).flow_id
            await client.run(flow_id, [{"n": n} for n in range(100)], max_concurrency=slots)
            p50 = await single_ms(client, flow_id, singles)
            rate = await batch(client, flow_id, items, slots) * steps
        peer = {"peer": "upstream server, builtin noop", "version": version("stepflow-orchestrator")}
        found.append({**peer, "items": items, "steps": steps, "steps_per_s": round(rate), "p50_ms": round(p50, 3)})
    return found


async def batch(client: StepflowClient, flow_id: str, items: int, slots: int) -> float:
    """Items a second, from the submission to the answer with every result."""
    inputs = [{"n": n} for n in range(items)]
    started = time.perf_counter()
    answer = await client.run(flow_id, inputs, max_concurrency=slots, timeout=600, wait_timeout=600)
    elapsed = time.perf_counter() - started
    assert len(answer.results) == items, answer.summary
    return items / elapsed


async def single_ms(client: StepflowClient, flow_id: str, singles: int) -> float:
    times = []
    for n in range(singles):
        started = time.perf_counter()
        await client.run(flow_id, {"n": n})
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--max-concurrency", type=int, required=True)
    parser.add_argument("--singles", type=int, default=200)
    given = parser.parse_args()
    for found in asyncio.run(measure(given.items, given.steps, given.max_concurrency, given.singles)):
        print(json.dumps(found))


if __name__ == "__main__":
    main()
