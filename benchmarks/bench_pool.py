"""How much longer than it has to does a pool of worker processes take for a batch of steps that each take a while?

The server (`stepflow serve`) and the workers, which it starts itself, are processes of their own; this one submits the
batch and reads the results. Ideal is what the steps alone would take on that many slots. The last line of the output is
one JSON object. See README.md beside this file.
"""

import argparse
import asyncio
import json
import math
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers.environments import python as environment

from stepflow_grpc import Client

HERE = Path(__file__).parent
READY_S = 120.0
FLOW = {"steps": [{"id": "rest", "component": "/rest", "input": {"$input": "$"}}], "output": {"$step": "rest"}}


def configuration(worker: str, processes: int, slots: int) -> dict[str, Any]:
    runs: dict[str, Any] = {"app": "pool_components:app"}
    if worker == "upstream":
        runs = {"command": str(environment("upstream")), "args": [str(HERE / "peers/upstream_rest.py")]}
    return {
        "plugins": {"workers": {"type": "grpc", "queueName": "pool"}},
        "routes": {"/": [{"plugin": "workers"}]},
        "pools": {"pool": {**runs, "replicas": processes, "maxConcurrent": slots}},
    }


@contextmanager
def serving(config: dict[str, Any], processes: int) -> Iterator[int]:
    """The port of a server whose workers are all connected."""
    command = [sys.executable, "-m", "stepflow.cli.main", "serve", "--config-stdin", "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=HERE, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(config))
        server.stdin.close()
        connected = _Connected(server, processes)
        try:
            port: int = json.loads(server.stdout.readline())["port"]
            connected.wait()
            yield port
        finally:
            server.terminate()
            connected.end()


class _Connected:
    """Reads what the server says, until it says that all workers are there and beyond."""

    def __init__(self, server: "subprocess.Popen[str]", processes: int) -> None:
        self._line = re.compile(rf"queue pool: {processes} workers?, ")
        self._lines: list[str] = []
        self._there = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(server.stderr,))
        self._thread.start()

    def _read(self, said: Any) -> None:
        for line in said:
            self._lines.append(line)
            if self._line.match(line):
                self._there.set()

    def end(self) -> None:
        """Return when the server has said its last."""
        self._thread.join()

    def wait(self) -> None:
        if not self._there.wait(READY_S):
            raise RuntimeError(f"not all workers connected within {READY_S} s:\n{''.join(self._lines[-20:])}")


async def batch_s(port: int, items: int, step_s: float, slots: int) -> float:
    """From the submission to the last result."""
    async with Client(f"127.0.0.1:{port}") as client:
        flow_id = await client.flow_id(FLOW)
        inputs = [{"n": n, "seconds": step_s} for n in range(items)]
        await client.run(flow_id, {"n": -1, "seconds": 0})
        started = time.perf_counter()
        run = await client.submit(flow_id, inputs, max_concurrency=4 * slots)
        outputs = [result.output async for result in run.results()]
        took = time.perf_counter() - started
    assert outputs == inputs
    return took


def measure(given: argparse.Namespace, worker: str, processes: int, slots: int) -> dict[str, Any]:
    step_s = given.step_ms / 1000
    with serving(configuration(worker, processes, slots), processes) as port:
        rounds = [asyncio.run(batch_s(port, given.items, step_s, processes * slots)) for _ in range(given.repeat)]
    ideal = math.ceil(given.items / (processes * slots)) * step_s
    median = statistics.median(rounds)
    return {
        "worker": worker,
        "processes": processes,
        "slots": slots,
        "seconds": round(median, 3),
        "worst_s": round(max(rounds), 3),
        "ideal_s": round(ideal, 3),
        "over_percent": round(100 * (median / ideal - 1), 1),
    }


def table(found: dict[str, Any]) -> str:
    return "\n".join(
        f"{pool['worker']:8}  {pool['processes']:3} processes of {pool['slots']:2} slots  {pool['seconds']:8.3f} s   "
        f"ideal {pool['ideal_s']:.3f} s   {pool['over_percent']:+.1f} %"
        for pool in found["pools"]
    )


def shape(text: str) -> tuple[int, int]:
    processes, _, slots = text.partition("x")
    return int(processes), int(slots)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000)
    parser.add_argument("--step-ms", type=float, default=100.0, help="how long each step takes")
    parser.add_argument("--pools", type=shape, nargs="+", default=[(20, 1), (5, 4)], metavar="PROCESSESxSLOTS")
    parser.add_argument("--worker", choices=("ours", "upstream"), default="ours")
    parser.add_argument("--compare", action="store_true", help="with both kinds of workers")
    parser.add_argument("--repeat", type=int, default=3, help="batches for each pool; the median counts")
    parser.add_argument("--json", action="store_true", help="only the JSON line, no table")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    load = round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)  # of each processor: beyond 1, others take their share
    workers = ("ours", "upstream") if given.compare else (given.worker,)
    pools = [measure(given, worker, *each) for each in given.pools for worker in workers]
    found = {"benchmark": "pool", "items": given.items, "step_ms": given.step_ms, "rounds": given.repeat}
    found |= {"load_before": load, "pools": pools}
    if not given.json:
        print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
