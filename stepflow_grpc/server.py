"""An engine behind a port."""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from stepflow.clock import SystemChance, SystemClock
from stepflow.engine import Engine
from stepflow.errors import StepflowError
from stepflow.protocols import Clock
from stepflow.records import Json
from stepflow_grpc.address import PORT
from stepflow_grpc.front import Front
from stepflow_grpc.http import Answer, HttpSide
from stepflow_grpc.messages import WORK_PACKAGE
from stepflow_grpc.plugin import QueuePlugin, make_hub
from stepflow_grpc.services.batch import BatchService
from stepflow_grpc.services.blobs import BlobService
from stepflow_grpc.services.calls import handlers
from stepflow_grpc.services.components import ComponentsService
from stepflow_grpc.services.flows import FlowsService
from stepflow_grpc.services.health import HealthService
from stepflow_grpc.services.orchestrator import OrchestratorService
from stepflow_grpc.services.runs import RunsService
from stepflow_grpc.services.tasks import Discoveries, TasksService
from stepflow_grpc.services.work import WorkService
from stepflow_grpc.wire import shown_time

logger = logging.getLogger("stepflow.server")


_ANY = ("0.0.0.0", "::", "")
LONGEST_MESSAGE = 4 * 1024 * 1024
"""Bytes of one message that is taken; larger values go through blobs."""

GRACE_S = 5.0
"""How long calls that are under way may take when the server closes."""


class ServerError(StepflowError):
    """The server could not be started."""


class Server:
    """Serves an open engine to clients, by gRPC and HTTP/1.1 on one port. Use it with `async with`, on asyncio.

    Args:
        engine: is opened and closed by whoever gives it.
        port: 0 takes a free one; `port` says which, once the server is open.
        url: where workers call back, as host:port. None: here.

    Raises:
        ServerError: the port can't be had.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        url: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._url = url
        self._engine = engine
        self._clock = clock or SystemClock()
        self._is_open = False
        self._health = HealthService(self._clock, self.is_ready)

    def is_ready(self) -> bool:
        """Whether calls are taken."""
        return self._is_open

    async def __aenter__(self) -> Self:
        self._grpc = grpc.aio.server(options=[("grpc.max_receive_message_length", LONGEST_MESSAGE)])
        services = self._services()
        self._grpc.add_generic_rpc_handlers([handlers(name, service) for name, service in services.items()])
        ours = {"BatchService": BatchService(self._engine, is_ready=self.is_ready), "WorkService": self._connections}
        self._grpc.add_generic_rpc_handlers([handlers(name, service, WORK_PACKAGE) for name, service in ours.items()])
        behind = self._grpc.add_insecure_port("127.0.0.1:0")
        await self._grpc.start()
        routes = {f"GET {path}": self._healthy for path in ("/api/v1/health", "/health")}
        self._front = Front(("127.0.0.1", behind), HttpSide(routes))
        try:
            self.port = await self._front.open(self.host, self.port)
        except OSError as error:
            await self._grpc.stop(None)
            remedy = "take another with --port, 0 for a free one"
            raise ServerError(f"port {self.port} of {self.host} can't be had: {error.strerror}; {remedy}") from error
        self._tasks.url = self._url or f"{'127.0.0.1' if self.host in _ANY else self.host}:{self.port}"
        self._connections.url = self._tasks.url
        self._work = [asyncio.create_task(work) for work in self._queue_work()]
        self._is_open = True
        return self

    def _services(self) -> dict[str, object]:
        exchange = self._engine.exchange if self._engine.backend.is_shared else None
        self._hub = make_hub(self._clock, exchange)
        discoveries = Discoveries(self._hub)
        self._tasks = TasksService(self._engine, self._hub, discoveries, SystemChance())
        self._connections = WorkService(self._engine, self._hub, discoveries, self._clock)
        return {
            "BlobService": BlobService(self._engine),
            "ComponentsService": ComponentsService(self._engine),
            "FlowsService": FlowsService(self._engine),
            "HealthService": self._health,
            "OrchestratorService": OrchestratorService(self._engine, self._hub, discoveries, self._clock),
            "RunsService": RunsService(self._engine, self._clock, is_ready=self.is_ready),
            "TasksService": self._tasks,
        }

    def _queue_work(self) -> Iterator[Coroutine[None, None, None]]:
        """What goes on behind the queues of the engine's plugins, which all exist from now on."""
        yield self._hub.queues.run()
        yield self._connections.run()
        for name, plugin in self._engine.plugins().items():
            if isinstance(plugin, QueuePlugin):
                queues = {plugin.queue_of(params): None for params in self._engine.route_params(name)}
                plugin.attach(self._hub, list(queues))
                for queue in {plugin.queue: None, **queues}:
                    yield plugin.serve_others(queue)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_open = False
        self._front.stop()
        self._tasks.close()
        self._connections.close()
        await asyncio.shield(self._grpc.stop(GRACE_S))
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._front.close()

    async def _healthy(self) -> Answer:
        answer = await self._health.HealthCheck(None)
        build = answer.build
        body: Json = {
            "status": answer.status,
            "timestamp": shown_time(answer.timestamp),
            "build": {
                "gitVersion": build.git_version,
                "dirty": build.dirty,
                "rustcVersion": build.rustc_version,
                "profile": build.profile,
                "features": list(build.features),
                "target": build.target,
            },
        }
        return (200 if self.is_ready() else 503), body


serve = Server
"""`async with serve(engine):` in a program of your own."""
