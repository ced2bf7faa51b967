"""Tells probes whether a worker is ready: its lifespan is loaded, and a stream to an orchestrator is open."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stepflow.errors import StepflowError
from stepflow.protocols import Clock
from stepflow_grpc.doors.front import Front
from stepflow_grpc.doors.http import Answer, HttpSide, Request
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.worker.worker import Worker

logger = logging.getLogger("stepflow.worker")

LOOK_S = 0.1


class ReadinessError(StepflowError):
    """Nobody could be told."""


class ReadyFile:
    """A file that exists while the worker is ready.

    Raises:
        ReadinessError: it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.touch()
            path.unlink()
        except OSError as error:
            raise ReadinessError(f"the file of readiness, {path}, can't be written: {error.strerror}") from None

    async def keep(self, worker: Worker, clock: Clock) -> None:
        """Until it is cancelled."""
        try:
            while True:
                self._show(worker.is_ready)
                await clock.sleep(LOOK_S)
        finally:
            self._show(False)

    def _show(self, is_ready: bool) -> None:
        try:
            if is_ready:
                self._path.touch()
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("the file of readiness, %s, can't be written: %s", self._path, error.strerror)


@asynccontextmanager
async def health_port(host: str, port: int, worker: Worker, clock: Clock) -> AsyncIterator[int]:
    """Answer `GET /ready` (503 while it is not) and `GET /health` by HTTP; gives the port.

    Raises:
        ReadinessError: the port can't be had.
    """

    async def ready(request: Request) -> Answer:
        return (200 if worker.is_ready else 503), {"ready": worker.is_ready}

    async def healthy(request: Request) -> Answer:
        return 200, {"status": "healthy", "ready": worker.is_ready}

    http = HttpSide({"GET /ready": ready, "GET /health": healthy, "GET /": ready}, clock)
    front = Front(clock, Limits(), http=http)
    try:
        bound = await front.open(host, port)
    except OSError as error:
        raise ReadinessError(f"port {port} of {host} can't be had: {error.strerror}; take another") from None
    try:
        yield bound
    finally:
        await front.close()
