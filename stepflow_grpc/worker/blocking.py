"""A worker that is its process's whole purpose."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from stepflow.components import Components
from stepflow_grpc.worker.worker import Worker

SECOND_SIGNAL = 130
"""Exit code of a process that was told twice to end."""


def run_worker(components: Components, **options: Any) -> None:
    """Serve until SIGTERM or Ctrl-C; what is at work is finished first, and a second signal ends the process at once.

    The options are those of `stepflow_grpc.Worker`.
    """
    asyncio.run(serve_until_told(Worker(components, **options)))


async def serve_until_told(worker: Worker, told: Callable[[], None] | None = None) -> None:
    """Serve until a signal comes; `told` is called with the first one. A lifespan that still loads is left."""
    serving = asyncio.create_task(worker.run())
    is_told = False

    def heed() -> None:
        nonlocal is_told
        if is_told:
            os._exit(SECOND_SIGNAL)
        is_told = True
        if told is not None:
            told()
        worker.stop()
        if not worker.is_loaded:
            serving.cancel()

    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, heed)
    await asyncio.wait((serving,))
    if not serving.cancelled():
        serving.result()
