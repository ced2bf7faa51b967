"""The reference's own worker with a no-op, for `bench_queue.py`. Runs in an environment of its own."""

import asyncio
import logging
import sys
from typing import Any

from stepflow_py.worker import StepflowServer
from stepflow_py.worker.grpc_worker import run_grpc_worker

logging.basicConfig(level=logging.WARNING)
server = StepflowServer()


@server.component
async def noop(input: dict[str, Any]) -> dict[str, Any]:
    return input


@server.component
async def slow(input: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0.1)
    return input


if __name__ == "__main__":
    url, queue, slots = sys.argv[1:]
    asyncio.run(run_grpc_worker(server, url, queue, max_concurrent=int(slots)))
