"""Our worker with a no-op, for `bench_queue.py`: `python queue_worker.py URL QUEUE SLOTS`."""

import asyncio
import sys
from typing import Any

import stepflow
from stepflow_grpc import Worker

app = stepflow.Components()


@app.component("/noop")
async def noop(input: dict[str, Any]) -> dict[str, Any]:
    return input


@app.component("/slow")
async def slow(input: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0.1)
    return input


async def main() -> None:
    url, queue, slots = sys.argv[1:]
    await Worker(app, url=url, queue=queue, max_concurrent=int(slots)).run()


if __name__ == "__main__":
    asyncio.run(main())
