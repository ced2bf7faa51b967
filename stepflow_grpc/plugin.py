"""The plugin whose components are those of workers: its tasks wait in a named queue."""

from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from stepflow.clock import SystemClock
from stepflow.errors import PluginUnavailableError
from stepflow.protocols import Clock, Exchange, Host
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Task
from stepflow_grpc.pools.pool import Pool
from stepflow_grpc.queues.catalogue import Catalogue
from stepflow_grpc.queues.credit import SpareCredit
from stepflow_grpc.queues.records import QueueLimits
from stepflow_grpc.queues.settings import Settings
from stepflow_grpc.queues.sharing import Sharing
from stepflow_grpc.queues.task_queues import TaskQueues
from stepflow_grpc.reports import Reports

ATTACHED_WITHIN_S = 5.0
"""How long a step waits for the server of its engine, which opens after the engine."""

_COMPONENTS = msgspec.json.Decoder(list[ComponentInfo])


class Hub(msgspec.Struct, frozen=True, kw_only=True):
    """What a server gives the queue plugins of its engine."""

    queues: TaskQueues
    catalogue: Catalogue
    sharing: Sharing | None = None  # None: no other engine shares the store
    exchange: Exchange | None = None
    reports: Reports

    def explain_unserved(self, queue: str, trouble: str | None) -> None:
        """Say why a queue has no worker, to whoever waits for one; None: nobody knows."""
        if self.queues.explain_unserved(queue, trouble):
            self.catalogue.ring(queue)


def make_hub(clock: Clock, exchange: Exchange | None = None) -> Hub:
    """Queues for one engine. `exchange`: of an engine whose store others share."""
    queues = TaskQueues(clock)
    catalogue = Catalogue(None if exchange is None else partial(_tell, exchange))
    sharing = None if exchange is None else Sharing(queues, exchange, clock, catalogue)
    queues.absence.warned_of = catalogue.ring
    return Hub(queues=queues, catalogue=catalogue, sharing=sharing, exchange=exchange, reports=Reports(clock))


class QueuePlugin:
    """Tasks go to the queue that their route names in `queueName`, else to the plugin's own.

    It does nothing by itself: a server attaches it to the queues that its workers pull from. While a queue has no
    worker, steps wait and say so; in an engine without a server they fail.

    Args:
        pool: workers that the server starts for the plugin.
        limits: of each of its queues; None: as they are.
    """

    leaves_process = True

    def __init__(
        self,
        *,
        name: str,
        queue: str,
        settings: Settings | None = None,
        pool: Pool | None = None,
        limits: QueueLimits | None = None,
    ) -> None:
        self.name = name
        self.queue = queue
        self.pool = pool
        self.settings = settings or Settings()
        self._limits = limits
        self._hub: Hub | None = None
        self._attached = anyio.Event()

    def attach(self, hub: Hub, queues: Sequence[str] = ()) -> None:
        """Use these queues from now on.

        Args:
            queues: further ones that routes to this plugin name; they exist from now on too.
        """
        self._hub = hub
        for queue in (self.queue, *queues):
            hub.queues.configure(queue, self._limits)
        self._attached.set()

    def queue_of(self, params: Mapping[str, Json]) -> str:
        named = params.get("queueName")
        return named if isinstance(named, str) and named else self.queue

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    async def serve_others(self, queue: str) -> None:
        """Let idle workers of a queue do tasks of other engines, and learn what the workers of those can do.

        Until it is cancelled; at once if there are no others.
        """
        hub = self._hub
        if hub is None or hub.exchange is None:
            return
        others_have = hub.catalogue.is_only_elsewhere
        credit = SpareCredit(hub.queues, hub.queues.configure(queue), self.settings, hub.reports.tell, others_have)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hub.exchange.follow, queue, partial(_learn_elsewhere, hub.catalogue, queue))
            await hub.exchange.serve(queue, credit, credit.work)

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo] | None:
        return None if self._hub is None else self._hub.catalogue.components(self.queue_of(params))

    def lacking(self, params: Mapping[str, Json]) -> str:
        queue = self.queue_of(params)
        found = None if self._hub is None else self._hub.queues.configure(queue)
        return f"the component list of queue {queue!r}" if found is None or found.is_served else found.unserved

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        hub = await self._server(self.queue_of(params))
        hub.queues.want(self.queue_of(params))
        await hub.catalogue.wait(self.queue_of(params))

    async def _server(self, queue: str) -> Hub:
        """Raises: PluginUnavailableError, where no server attaches the plugin to its queues."""
        if self._hub is None:
            with SystemClock().timeout(ATTACHED_WITHIN_S):
                await self._attached.wait()
        if self._hub is None:
            raise PluginUnavailableError(
                f"plugin {self.name!r}: nobody gives out the tasks of queue {queue!r}; run the flow by `stepflow serve`"
            )
        return self._hub

    def perform(self, task: Task, host: Host) -> Coroutine[Any, Any, Outcome]:
        if self._hub is None:
            return self._perform_later(task, host)
        queue = self.queue_of(task.params)
        queued = self.settings.queued(task, queue, report=host.report, note_queued=host.queued)
        return (self._hub.sharing or self._hub.queues).offer(queued, host.waiting)

    async def _perform_later(self, task: Task, host: Host) -> Outcome:
        try:
            await self._server(self.queue_of(task.params))
        except PluginUnavailableError as error:
            return Failed(ErrorCode.UNREACHABLE, str(error), may_retry=False)
        return await self.perform(task, host)


def _tell(exchange: Exchange, queue: str, listed: Sequence[ComponentInfo]) -> None:
    exchange.announce(queue, msgspec.json.encode(listed))


def _learn_elsewhere(catalogue: Catalogue, queue: str, lists: Sequence[bytes]) -> None:
    catalogue.learn_elsewhere(queue, [_COMPONENTS.decode(listed) for listed in lists])


def make_plugin(*, name: str, options: Mapping[str, Json], working_directory: Path) -> QueuePlugin:
    """The plugin as a configuration describes it. A timeout that is not written is none."""
    settings = Settings(
        queue_timeout_s=_seconds(options.get("queueTimeoutSecs")),
        execution_timeout_s=_seconds(options.get("executionTimeoutSecs")),
    )
    queue = str(options["queueName"])
    most = _whole(options.get("maxQueueLength"))
    limits = None if most is None else QueueLimits(max_length=most)
    pool = _pool(queue, options, working_directory)
    return QueuePlugin(name=name, queue=queue, settings=settings, pool=pool, limits=limits)


def _pool(queue: str, options: Mapping[str, Json], directory: Path) -> Pool | None:
    """The workers that `command` describes."""
    command, args, env = (options.get(key) for key in ("command", "args", "env"))
    if not isinstance(command, str):
        return None
    more = [str(each) for each in args] if isinstance(args, list | tuple) else []
    return Pool(
        queue,
        command=(command, *more),
        replicas=_whole(options.get("replicas")) or 1,
        max_concurrent=_whole(options.get("maxConcurrent")),
        env={name: str(value) for name, value in env.items()} if isinstance(env, Mapping) else {},
        directory=directory,
    )


def _seconds(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
