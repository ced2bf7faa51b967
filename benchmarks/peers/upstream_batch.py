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


async def measure(items: int, steps: int, slots: int, singles: int, rounds: int) -> dict[str, Any]:
    """Medians of rounds with a server of its own each: it slows down with what it remembers."""
    rates, latencies = [], []
    for _ in range(rounds):
        async with StepflowClient.local(config(), log_level="error") as client:
            flow_id = (await client.store_flow(chain(steps, "/builtin/noop"))).flow_id
            await client.run(flow_id, [{"n": n} for n in range(100)], max_concurrency=slots)
            latencies.append(await single_ms(client, flow_id, singles))
            rates.append(await batch(client, flow_id, items, slots) * steps)
    return {
        "peer": "upstream server, builtin noop",
        "version": version("stepflow-orchestrator"),
        "items": items,
        "steps": steps,
        "steps_per_s": round(statistics.median(rates)),
        "p50_ms": round(statistics.median(latencies), 3),
    }


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
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for items in given.items:
        found = asyncio.run(measure(items, given.steps, given.max_concurrency, given.singles, given.rounds))
        print(json.dumps(found))


if __name__ == "__main__":
    main()
