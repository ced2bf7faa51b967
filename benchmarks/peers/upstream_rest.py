"""The reference's own worker for `bench_pool.py`, started by our server. Runs in an environment of its own."""

import asyncio
import logging
import os
from typing import Any

from stepflow_py.worker import StepflowServer
from stepflow_py.worker.grpc_worker import run_grpc_worker

logging.basicConfig(level=logging.WARNING)
server = StepflowServer()


@server.component
async def rest(input: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(input["seconds"])
    return input


if __name__ == "__main__":
    url, queue = os.environ["STEPFLOW_TASKS_URL"], os.environ["STEPFLOW_QUEUE_NAME"]
    asyncio.run(run_grpc_worker(server, url, queue, max_concurrent=int(os.environ["STEPFLOW_MAX_CONCURRENT"])))
