"""An engine behind a port."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Self

import anyio

from stepflow.clock import SystemChance, SystemClock
from stepflow.engine import Engine
from stepflow.protocols import Clock
from stepflow.records import Json
from stepflow_grpc.address import PORT
from stepflow_grpc.deadlocks import Deadlocks
from stepflow_grpc.doors.guard import Tokens
from stepflow_grpc.doors.http import Answer, HttpSide, Request
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.doors.tls import TlsFiles
from stepflow_grpc.held_up import HeldUpWorkers
from stepflow_grpc.messages import WORK_PACKAGE
from stepflow_grpc.peers import reachable
from stepflow_grpc.plugin import QueuePlugin, make_hub
from stepflow_grpc.pools.board import QueueRow, Service, queue_rows, queue_states
from stepflow_grpc.pools.pool import Pool
from stepflow_grpc.pools.pools import Pools
from stepflow_grpc.pools.speaker import Speaker
from stepflow_grpc.pools.watch import watch
from stepflow_grpc.ports import GRACE_S, Doors
from stepflow_grpc.proto.stepflow_v1 import HealthCheckRequest
from stepflow_grpc.questions import QueueState
from stepflow_grpc.queues.records import Statistics
from stepflow_grpc.services.batch import BatchService
from stepflow_grpc.services.beats import BeatService
from stepflow_grpc.services.blobs import BlobService
from stepflow_grpc.services.calls import Gate, service_of
from stepflow_grpc.services.components import ComponentsService
from stepflow_grpc.services.farewell import answered
from stepflow_grpc.services.flows import FlowsService
from stepflow_grpc.services.health import HealthService
from stepflow_grpc.services.operator import OperatorService
from stepflow_grpc.services.orchestrator import OrchestratorService
from stepflow_grpc.services.room import Room
from stepflow_grpc.services.runs import RunsService
from stepflow_grpc.services.tasks import Discoveries, TasksService
from stepflow_grpc.services.watchers import Watchers
from stepflow_grpc.services.work import WorkService
from stepflow_grpc.wire import shown_time

logger = logging.getLogger("stepflow.server")

DRAIN_S = 4.0
"""How long workers of pools have unless told otherwise. The reference's launcher kills a server after 10 s: that leaves
calls under way theirs, and the store its own."""

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
        pools: workers to start, beside those of the engine's plugins that have a `command`.
        drain_s: how long they, and workers of the reference system, may take for the tasks that they are at when the
            server closes.
        say: takes what those workers write, a line or several at once, and a line when the workers of a queue change.
            None: the former goes to stderr, the latter to the log. It is called in a thread of its own.

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
        pools: Sequence[Pool] = (),
        drain_s: float = DRAIN_S,
        say: Callable[[str], None] | Speaker | None = None,
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
        self._tls, self._tokens = tls, tokens
        self._given_pools = tuple(pools)
        self._drain_s = drain_s
        self._is_heard, self._owns_speaker = say is not None, not isinstance(say, Speaker)
        self._speaker = say if isinstance(say, Speaker) else Speaker(say or _to_stderr)
        self._routes: dict[str, list[str]] = {}  # by queue
        self._announced = ""  # where other engines reach it
        self._is_open = False
        self._health = HealthService(self._clock, self.is_ready)

    def is_ready(self) -> bool:
        """Whether calls are taken."""
        return self._is_open

    async def __aenter__(self) -> Self:
        services = [service_of(name, service, gate=self._gate) for name, service in self._services().items()]
        self._batches = BatchService(self._engine, is_ready=self.is_ready, room=self._room, watchers=self._watchers)
        ours = {
            "BatchService": self._batches,
            "BeatService": BeatService(self._hub, HeldUpWorkers(self._engine, self._hub.queues)),
            "OperatorService": OperatorService(self._engine, self._queue_states, self._orchestrator.peers),
            "WorkService": self._connections,
        }
        services += [service_of(name, service, WORK_PACKAGE, gate=self._gate) for name, service in ours.items()]
        await self._doors.open(services, self.host, self.port, self.http_port)
        self.port, self.http_port = self._doors.port, self._doors.http_port
        self._tasks.url = self._url or self._doors.url
        self._connections.url = self._tasks.url
        self._pools = Pools(self._all_pools(), clock=self._clock, chance=SystemChance(), grace_s=self._drain_s)
        is_secure = self._doors.url.startswith("https:")
        self._announced = await asyncio.to_thread(reachable, self.host, self.port, is_secure=is_secure)
        await self._engine.announce(self._announced)
        self._work = [asyncio.create_task(work) for work in self._queue_work()]
        self._looking_after = asyncio.create_task(self._hub.queues.run())
        self._watching = asyncio.create_task(self._watch())
        self._is_open = True
        self._doors.welcome()
        try:
            await self._pools.start(self._doors.url, self._worker_environment(), self._speaker.say)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    def _all_pools(self) -> list[Pool]:
        plugins = self._engine.plugins().values()
        own = [plugin.pool for plugin in plugins if isinstance(plugin, QueuePlugin) and plugin.pool is not None]
        return [*own, *self._given_pools]

    def _worker_environment(self) -> dict[str, str]:
        """What workers of pools need so that they are let in, and trust this server."""
        found = {} if self._tokens is None else dict(self._tokens.environment())
        if self._tls is not None:
            found["STEPFLOW_TLS_CA"] = os.environ.get("STEPFLOW_TLS_CA") or self._tls.cert
        for name in ("STEPFLOW_TLS_CA", "STEPFLOW_TOKEN_FILE"):
            if name in found:
                found[name] = os.path.abspath(found[name])  # they may start in another directory
        return found

    @property
    def address(self) -> str:
        """Where workers and clients on this machine find it."""
        return self._doors.url

    def queues(self) -> list[QueueRow]:
        """Who serves which queue now."""
        return queue_rows(self._routes, self._hub.queues.statistics(), self._pools.states())

    def _coming(self) -> set[str]:
        """The queues whose workers are connected, or have been started."""
        return {row.queue for row in self.queues() if row.workers or row.service is Service.STARTING}

    def _queue_states(self) -> list[QueueState]:
        return queue_states(self.queues(), self.statistics(), self.address, server=self._announced)

    def statistics(self) -> Statistics:
        """How queues and workers are, with the last that each worker said of itself."""
        return Statistics(queues=self._hub.queues.statistics(), workers=self._hub.queues.workers())

    def _services(self) -> dict[str, object]:
        exchange = self._engine.exchange if self._engine.backend.is_shared else None
        self._hub = make_hub(self._clock, exchange)
        self._room = Room(self._engine, self._hub)
        self._watchers = Watchers()
        discoveries = Discoveries(self._hub, self._engine.owner)
        self._tasks = TasksService(self._engine, self._hub, discoveries, SystemChance())
        self._deadlocks = Deadlocks(self._engine, self._hub.queues, self._clock)
        self._orchestrator = OrchestratorService(
            self._engine, self._hub, discoveries, self._clock, self._deadlocks, self._watchers
        )
        self._connections = WorkService(self._engine, self._hub, discoveries, self._clock)
        return {
            "BlobService": BlobService(self._engine),
            "ComponentsService": ComponentsService(self._engine, self._hub.catalogue, self._clock, self._coming),
            "FlowsService": FlowsService(self._engine),
            "HealthService": self._health,
            "OrchestratorService": self._orchestrator,
            "RunsService": RunsService(
                self._engine, self._clock, is_ready=self.is_ready, room=self._room, watchers=self._watchers
            ),
            "TasksService": self._tasks,
        }

    def _queue_work(self) -> Iterator[Coroutine[None, None, None]]:
        """What goes on behind the queues of the engine's plugins, which all exist from now on."""
        yield self._connections.run()
        yield self._deadlocks.run()
        yield self._orchestrator.run()
        for name, plugin in self._engine.plugins().items():
            if isinstance(plugin, QueuePlugin):
                queues: dict[str, None] = {}
                for route, params in self._engine.routes_to(name):
                    queues[plugin.queue_of(params)] = None
                    self._routes.setdefault(plugin.queue_of(params), []).append(route)
                plugin.attach(self._hub, list(queues))
                for queue in {plugin.queue: None, **queues}:
                    yield plugin.serve_others(queue)
        for state in self._pools.states():
            self._hub.queues.configure(state.pool.queue)

    def _watch(self) -> Coroutine[None, None, None]:
        return watch(self._look, self._hub.explain_unserved, self.tell, self._clock, self.address)

    def _look(self) -> list[QueueRow]:
        self._pools.note_connected({worker.id for worker in self._hub.queues.workers()})
        return self.queues()

    def tell(self, line: str) -> None:
        """Have a line said among those of the workers, some time: whoever reads them may be slow."""
        if self._is_heard:
            self._speaker.post(line)
        else:
            logger.info("%s", line)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):  # whatever ended it, workers and ports are let go in their order
            await self._close()

    async def _close(self) -> None:
        self._is_open = False
        started = self._clock.now()
        self._watching.cancel()
        self._looking_after.cancel()  # what is given up now would only begin again to be cut off
        self._tasks.close()
        await asyncio.gather(self._pools.stop(), self._answered())
        if self._owns_speaker:
            self._speaker.close()
        left_s = max(GRACE_S - (self._clock.now() - started), 1.0)
        self._doors.stop()
        self._connections.close()
        self._watchers.close()
        await asyncio.shield(self._doors.close(left_s))
        for work in self._work:
            work.cancel()
        await asyncio.gather(self._watching, self._looking_after, *self._work, return_exceptions=True)
        await self._orchestrator.close()

    async def _answered(self) -> None:
        """Answers that would come late are worth waiting for where runs go on elsewhere."""
        if self._engine.backend.is_durable:
            await answered(self._hub.queues.workers, self._clock, within_s=self._drain_s)

    async def _healthy(self, request: Request) -> Answer:
        answer = await self._health.HealthCheck(HealthCheckRequest())
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


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


serve = Server
"""`async with serve(engine):` in a program of your own."""
