"""A process's part in a queue: it pulls tasks and does them with the components of a registry."""

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine, Sequence
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from stepflow.clock import SystemChance, SystemClock
from stepflow.components import Components
from stepflow.errors import BlobNotFoundError, StepflowError
from stepflow.plugins.functions import THREADS, FunctionsPlugin
from stepflow.protocols import Chance, Clock
from stepflow.records import ErrorCode, Failed, Outcome, Task
from stepflow_grpc.address import Address, read_address
from stepflow_grpc.credentials import Credentials, read_credentials
from stepflow_grpc.queues.records import WorkerReport
from stepflow_grpc.worker.callbacks import Callbacks
from stepflow_grpc.worker.calls import CallFailed, Calls
from stepflow_grpc.worker.connecting import Connecting, LookUp, look_up
from stepflow_grpc.worker.fast import FastLink
from stepflow_grpc.worker.figures import versions
from stepflow_grpc.worker.heart import Heart
from stepflow_grpc.worker.host import RemoteBlobs, WorkerHost
from stepflow_grpc.worker.link import Given, Link
from stepflow_grpc.worker.progress import ProgressTeller
from stepflow_grpc.worker.references import referred, resolved
from stepflow_grpc.worker.running import RunningTasks
from stepflow_grpc.worker.tuner import Tuner
from stepflow_grpc.worker.tuning import MOST
from stepflow_grpc.worker.udf.component import Udf
from stepflow_grpc.worker.udf.records import UdfLimits
from stepflow_grpc.worker.v1 import V1Link

logger = logging.getLogger("stepflow.worker")

SLOTS = 4
"""How many tasks a worker does at a time, unless told otherwise."""

QUEUE = "python"
"""Where a worker pulls from, unless told otherwise."""

ANSWERED_WITHIN_S = 15.0
"""How long a worker that ends waits for servers to take its last answers."""


class WorkerError(StepflowError):
    """The worker can't be what it was told to be."""


class Worker:
    """Serves the components of a registry to a queue. Use it with `async with`, or await `run()`; on asyncio.

    It connects to every orchestrator that the address leads to, and again whenever a connection breaks. It takes no
    more tasks than it has slots for; a task that waits for a sub-run holds none. Inside `async with` it pulls in the
    background; leaving it drains: what is at work is finished first, or given back where an exception leaves.

    Raises:
        ConfigError: the type hint of an input can't be used.
        AddressError: the text is no address.
        WorkerError: there is nothing to serve, or no slot.
    """

    def __init__(
        self,
        components: Components,
        *,
        url: str | None = None,
        queue: str = QUEUE,
        max_concurrent: int | Literal["auto"] = SLOTS,
        worker_id: str | None = None,
        blob_url: str | None = None,
        blob_threshold: int = 0,
        grace_s: float | None = None,
        udf: bool | UdfLimits = False,
        fast_path: bool = True,
        credentials: Credentials | None = None,
        clock: Clock | None = None,
        chance: Chance | None = None,
        look_up: LookUp = look_up,
        make_heart: type[Heart] = Heart,
    ) -> None:
        """
        Args:
            url: of the orchestrators, as host:port or https://host:port; absent: STEPFLOW_URL, else 127.0.0.1:7840.
            max_concurrent: how many tasks at a time; auto: as many as get the most done, found out as it goes.
            worker_id: absent: made of the host's name, the process and chance.
            blob_url: where blobs are; absent: at the orchestrators.
            blob_threshold: above 0, references to blobs in inputs are replaced by what they refer to, and fields of
                outputs that take more bytes become blobs.
            grace_s: how long what is at work may take once the worker is to end; absent: as long as it takes.
            udf: whether the component `udf`, whose functions come as text in blobs, is served too, within what limits.
                Whoever may submit runs can then run code here.
            fast_path: whether batched frames are spoken with servers that know them; else `stepflow.v1` with all.
            credentials: absent: those of the environment.
        """
        self._udf = Udf(udf if isinstance(udf, UdfLimits) else None, clock) if udf else None
        self._registry = components if self._udf is None else self._udf.added_to(components)
        self._slots: int = SLOTS if max_concurrent == "auto" else max_concurrent
        _check(self._registry, queue, self._slots)
        self.address: Address = read_address(url)
        self.queue = queue
        self._clock = clock or SystemClock()
        self._chance = chance or SystemChance()
        self.id = worker_id or self._make_id()
        self._blob_url = blob_url
        self._blob_threshold = blob_threshold
        self._grace_s = grace_s
        self._fast_path = fast_path
        self._credentials = credentials if credentials is not None else read_credentials()
        self._look_up = look_up
        self._make_heart = make_heart
        self._tuner = Tuner(self._slots, self._clock) if max_concurrent == "auto" else None
        most = self._slots if self._tuner is None else MOST
        self._plugin = FunctionsPlugin(self._registry, threads=max(THREADS, most))
        self._is_loaded = False
        self._stopped = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None

    @property
    def is_tuned(self) -> bool:
        """Whether it finds out how many slots it should have."""
        return self._tuner is not None

    @property
    def slots(self) -> int:
        """How many tasks it does at a time now."""
        return self._slots if self._tuner is None else self._tuner.slots

    def _make_id(self) -> str:
        unique = self._chance.run_id(self._clock.now()).rpartition("-")[2]
        return f"{socket.gethostname()}-{os.getpid()}-{unique}"

    @property
    def is_loaded(self) -> bool:
        """Whether the lifespan is loaded, and not left yet."""
        return self._is_loaded

    @property
    def is_ready(self) -> bool:
        """Whether the lifespan is loaded, and tasks can come from an orchestrator."""
        return self._is_loaded and any(link.is_live for link in self._desk.links)

    @property
    def running(self) -> int:
        """How many tasks are at work."""
        return self._desk.running if self._is_loaded else 0

    @property
    def connected(self) -> Sequence[Address]:
        """The orchestrators that tasks can come from now."""
        return self._connecting.live() if self._is_loaded else ()

    async def ready(self) -> None:
        """Wait until it is. What ends the worker before comes out."""
        while not self.is_ready:
            if self._running is not None and self._running.done():
                self._running.result()
                raise WorkerError("the worker has ended")
            await self._clock.sleep(0.02)

    def stop(self) -> None:
        """Take nothing more, and end once what is at work has ended."""
        if self._is_loaded:
            self._desk.drain()
        self._stopped.set()

    async def run(self) -> None:
        """Serve until `stop` or cancellation. What the registry's lifespan raises comes out."""
        self._make_parts()
        async with self._udf or nullcontext(), self._plugin.open(), self._heart:
            self._is_loaded = True
            connecting = asyncio.create_task(self._connecting.run())
            stopped = asyncio.create_task(self._stopped.wait())
            if self._tuner is not None:
                self._start(self._tuner.run(self._desk))
            try:
                await asyncio.wait((connecting, stopped), return_when=asyncio.FIRST_COMPLETED)
                if connecting.done():
                    connecting.result()
                await self._drain()
            finally:
                self._is_loaded = False
                await self._end([connecting, stopped, *self._background])

    def _make_parts(self) -> None:
        clock, chance = self._clock, self._chance
        self._calls = Calls(self.address, self._credentials)
        self._callbacks = Callbacks(self._calls, clock, chance, start=self._start, others=self._orchestrators)
        blobs = RemoteBlobs(self._calls, clock, chance, self._blobs_at)
        self._host = WorkerHost(self._calls, clock, chance, blobs=blobs, orchestrators=self._orchestrators)
        self._desk = self._host.desk = RunningTasks(
            self._perform,
            worker_id=self.id,
            queue=self.queue,
            slots=self.slots,
            components=self._registry.infos,
            report=self._report,
            batched=2 * max((component.batch.size for component in self._registry.all() if component.batch), default=0),
        )
        self._host.progress = ProgressTeller(self._desk, clock, start=self._start).tell
        self._versions = versions(component.function.__module__ for component in self._registry.all())
        self._heart = self._make_heart(
            self.id, clock, unwanted=self._unwanted, ask=self._report, credentials=self._credentials
        )
        self._desk.heart = _TaskHeart(self._heart, self._calls)
        makers = (self._fast_link, self._v1_link) if self._fast_path else (self._v1_link,)
        self._connecting = Connecting(
            self.address, self._desk, makers, clock, chance, heart=self._heart, look_up=self._look_up
        )

    def _fast_link(self, address: Address, name: str | None) -> Link:
        return FastLink(address, self._clock, credentials=self._credentials, name=name)

    def _v1_link(self, address: Address, name: str | None) -> Link:
        return V1Link(address, self._callbacks, credentials=self._credentials, name=name)

    def _report(self) -> WorkerReport:
        return WorkerReport(slots=self.slots, busy=self._desk.busy, versions=self._versions)

    def _unwanted(self, given: Given, is_claimed: bool) -> None:
        """A server doesn't want to hear of a task. One that nobody waits for now may be tried again in a moment, so it
        goes on; one that another worker has is left to that."""
        if is_claimed:
            logger.info("task %s is done by another worker", given.id)
            self._desk.stop(given.id, given.task.attempt)

    def _orchestrators(self) -> Sequence[str]:
        """Those that are there now; else where they should be."""
        return [str(address) for address in self._connecting.live()] or [str(self.address)]

    def _blobs_at(self) -> str:
        return self._blob_url or self._orchestrators()[0]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _perform(self, task: Task) -> Coroutine[Any, Any, Outcome]:
        work = self._perform_plainly(task)
        return work if self._tuner is None else self._tuner.counted(work)

    def _perform_plainly(self, task: Task) -> Coroutine[Any, Any, Outcome]:
        if self._blob_threshold:
            return self._perform_with_blobs(task)
        return self._plugin.perform(task, self._host)

    async def _perform_with_blobs(self, task: Task) -> Outcome:
        blobs = self._host.blobs
        try:
            input = await resolved(task.input, blobs)
        except (BlobNotFoundError, CallFailed) as error:
            return Failed(ErrorCode.RESOURCE_UNAVAILABLE, f"the input refers to a blob that can't be had: {error}")
        outcome = await self._plugin.perform(msgspec.structs.replace(task, input=input), self._host)
        return await referred(outcome, blobs, self._blob_threshold)

    async def _drain(self) -> None:
        self._desk.drain()
        if self._desk.running:
            logger.info("tasks that are finished first: %d", self._desk.running)
        await self._within(self._grace_s, self._desk.done())
        given_up = self._desk.give_up()
        if given_up:
            logger.warning("tasks that took longer than the grace go back to the queue: %d", given_up)
        await self._within(ANSWERED_WITHIN_S, self._desk.idle())

    async def _within(self, seconds: float | None, wait: Coroutine[Any, Any, None]) -> None:
        if seconds is None:
            await wait
            return
        with self._clock.timeout(seconds):
            await wait

    async def _end(self, tasks: Sequence["asyncio.Task[Any]"]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._desk.close()
        await self._calls.close()

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.run())
        while not self._is_loaded and not self._running.done():
            await self._clock.sleep(0.005)
        if self._running.done():
            self._running.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._running is not None
        if kind is not None:
            self._grace_s = 0.0
        self.stop()
        await self._running


def _check(registry: Components, queue: str, slots: int) -> None:
    """Raises: WorkerError, where the worker could do nothing."""
    if not registry.all():
        raise WorkerError("the registry has no components: decorate functions with @app.component")
    if slots < 1:
        raise WorkerError(f"a worker with {slots} slots does nothing: give max_concurrent 1 or more")
    if not queue:
        raise WorkerError("the queue has no name")


class _TaskHeart:
    """Has the heart beat for single tasks where their orchestrators are."""

    def __init__(self, heart: Heart, calls: Calls) -> None:
        self._heart = heart
        self._calls = calls
        self.begin = heart.begin
        self.remove = heart.remove

    @property
    def is_catching_up(self) -> bool:
        return self._heart.is_catching_up

    def add(self, given: Given) -> None:
        self._heart.add(given, address=self._calls.address(given.url))
