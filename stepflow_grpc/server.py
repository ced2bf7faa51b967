"""An engine behind a port."""

import asyncio
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Self

from stepflow.clock import SystemChance, SystemClock
from stepflow.engine import Engine
from stepflow.protocols import Clock
from stepflow.records import Json
from stepflow_grpc.address import PORT
from stepflow_grpc.doors import GRACE_S, Doors
from stepflow_grpc.http import Answer, HttpSide, Request
from stepflow_grpc.limits import Limits
from stepflow_grpc.messages import WORK_PACKAGE
from stepflow_grpc.plugin import QueuePlugin, make_hub
from stepflow_grpc.services.batch import BatchService
from stepflow_grpc.services.beats import BeatService
from stepflow_grpc.services.blobs import BlobService
from stepflow_grpc.services.calls import Gate, handlers
from stepflow_grpc.services.components import ComponentsService
from stepflow_grpc.services.flows import FlowsService
from stepflow_grpc.services.guard import Tokens
from stepflow_grpc.services.health import HealthService
from stepflow_grpc.services.orchestrator import OrchestratorService
from stepflow_grpc.services.runs import RunsService
from stepflow_grpc.services.tasks import Discoveries, TasksService
from stepflow_grpc.services.work import WorkService
from stepflow_grpc.tls import TlsFiles
from stepflow_grpc.wire import shown_time

_PROBES = ("/api/v1/health", "/health")


class Server:
    """Serves an open engine to clients, by gRPC and HTTP/1.1 on one port. Use it with `async with`, on asyncio.

    Args:
        engine: is opened and closed by whoever gives it.
        port: 0 takes a free one; `port` says which, once the server is open.
        url: where workers call back, as host:port. None: here.
        tls: the certificate; None speaks in clear. With TLS, `port` is gRPC's alone.
        tokens: of which callers have to show one; None lets everybody in.
        http_port: a port for HTTP alone; None: `port` speaks it too, unless there is TLS.

    Raises:
        ServerError: a port can't be had.
        CredentialsError: the certificate can't be used.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        url: str | None = None,
        clock: Clock | None = None,
        tls: TlsFiles | None = None,
        tokens: Tokens | None = None,
        http_port: int | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.http_port = http_port
        self._url = url
        self._engine = engine
        self._clock = clock or SystemClock()
        self._limits = limits or Limits()
        self._gate = Gate(self._limits.in_flight_bytes)
        routes = {f"GET {path}": self._healthy for path in _PROBES}
        http = HttpSide(routes, self._clock, limits=self._limits, tokens=tokens, open=frozenset(_PROBES))
        self._doors = Doors(http, self._clock, self._limits, tls=tls, tokens=tokens)
        self._is_open = False
        self._health = HealthService(self._clock, self.is_ready)

    def is_ready(self) -> bool:
        """Whether calls are taken."""
        return self._is_open

    async def __aenter__(self) -> Self:
        services = [handlers(name, service, gate=self._gate) for name, service in self._services().items()]
        ours = {
            "BatchService": BatchService(self._engine, is_ready=self.is_ready),
            "BeatService": BeatService(self._hub),
            "WorkService": self._connections,
        }
        services += [handlers(name, service, WORK_PACKAGE, gate=self._gate) for name, service in ours.items()]
        await self._doors.open(services, self.host, self.port, self.http_port)
        self.port, self.http_port = self._doors.port, self._doors.http_port
        self._tasks.url = self._url or self._doors.url
        self._connections.url = self._tasks.url
        self._work = [asyncio.create_task(work) for work in self._queue_work()]
        self._is_open = True
        self._doors.welcome()
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
                queues = {plugin.queue_of(params): None for _, params in self._engine.routes_to(name)}
                plugin.attach(self._hub, list(queues))
                for queue in {plugin.queue: None, **queues}:
                    yield plugin.serve_others(queue)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_open = False
        self._doors.stop()
        self._tasks.close()
        self._connections.close()
        await asyncio.shield(self._doors.close(GRACE_S))
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    async def _healthy(self, request: Request) -> Answer:
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
