"""The same engine for code that blocks. Its loop runs in a thread of its own: it works in any thread and notebook."""

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, TypeVar, Unpack

import anyio

from stepflow.clock import SystemClock
from stepflow.components import Components
from stepflow.config import open_engine
from stepflow.engine import Engine, ListedComponent
from stepflow.execution.events import Event
from stepflow.execution.handle import Run
from stepflow.execution.options import FlowLike, SubmitOptions
from stepflow.execution.resume import CHUNK, Source
from stepflow.history.explanation import Explanation
from stepflow.portal import NAP_S, Portal, result_of
from stepflow.records import Blob, BlobId, BlobType, ItemResult, Json, RunId, RunRecord, RunStatus

T = TypeVar("T")


class HandedSource(Source):
    """Inputs that the caller's own thread reads when the engine asks: a cursor or a file stays in its thread."""

    def __init__(self, inputs: Iterable[Json]) -> None:
        super().__init__(inputs, SystemClock())
        self._asked: SimpleQueue[object] = SimpleQueue()
        self._supplied = anyio.Event()
        self._most = 0
        self._chunk: Sequence[Json] | BaseException = ()

    async def take(self, most: int = CHUNK) -> Sequence[Json]:
        self._most = most
        self._supplied = anyio.Event()
        self._asked.put(_ASKED)
        await self._supplied.wait()
        if isinstance(self._chunk, BaseException):
            raise self._chunk
        return self._chunk

    async def aclose(self) -> None:
        """The caller's iterator is the caller's to close."""

    async def supply(self, chunk: Sequence[Json] | BaseException) -> None:
        self._chunk = chunk
        self._supplied.set()

    def wake(self, future: object) -> None:
        self._asked.put(future)

    def is_asked(self, until: object) -> bool:
        """Wait until inputs are asked for. False: `until` woke this up instead."""
        while True:
            try:
                found = self._asked.get(timeout=NAP_S)
            except Empty:
                continue
            if found is _ASKED or found is until:
                return found is _ASKED

    def read(self) -> Sequence[Json] | BaseException:
        """Some of the next inputs, or what the iterator raised."""
        try:
            return self._some(self._most)
        except Exception as error:  # noqa: BLE001  # raised again where the engine takes the inputs
            return error


_ASKED = object()


class SyncRun:
    """A run that was submitted through a `SyncEngine`."""

    def __init__(self, engine: "SyncEngine", run: Run) -> None:
        self.id = run.id
        self.flow_id = run.flow_id
        self._engine = engine
        self._run = run

    def __repr__(self) -> str:
        return f"<SyncRun {self.id}>"

    def record(self) -> RunRecord:
        return self._engine.call(self._run.record)

    def wait(self) -> RunRecord:
        return self._engine.call(self._run.wait)

    def cancel(self) -> None:
        self._engine.call(self._run.cancel)

    def batches(self) -> AsyncIterator[Sequence[ItemResult]]:
        """For the engine's loop: results in item order, in lists of what is there."""
        return self._run.result_batches()

    def results(self, *, order: str = "item") -> Iterator[ItemResult]:
        for batch in self._engine.iterate(self._run.result_batches(order=order)):
            yield from batch

    def events(self) -> Iterator[Event]:
        return self._engine.iterate(self._run.events())


class SyncEngine:
    """An `Engine` behind a portal: the same names, blocking. Use it with `with`.

    Args:
        components, options: as for `Engine`.
        config: a configuration's path or mapping, as for `open_engine`.
    """

    def __init__(
        self,
        components: Components | Mapping[str, Components] | None = None,
        *,
        config: str | os.PathLike[str] | Mapping[str, Json] | None = None,
        **options: Any,
    ) -> None:
        self._engine = (
            Engine(components, **options) if config is None else open_engine(config, components=components, **options)
        )
        self._portal = Portal(self._engine, "engine", "with SyncEngine(…) as engine:")

    @property
    def engine(self) -> Engine:
        """The engine itself, whose coroutines `call` runs."""
        return self._engine

    def __enter__(self) -> "SyncEngine":
        self._portal.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._portal.close()

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
        """Run a coroutine function on the engine's loop and wait for what it gives.

        An interrupted wait (Ctrl-C) cancels it.
        """
        return self._portal.call(function, *args, **kwargs)

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """What an asynchronous iterator gives; each step is a hop to the engine's thread."""
        return self._portal.iterate(source)

    def submit(self, flow: FlowLike, inputs: Iterable[Json], **options: Unpack[SubmitOptions]) -> SyncRun:
        return SyncRun(self, self.call(self._engine.submit, flow, inputs, **options))

    def run(self, flow: FlowLike, input: Json = None, **options: Unpack[SubmitOptions]) -> Json:
        return self.call(self._engine.run, flow, input, **options)

    def run_batch(
        self, flow: FlowLike, inputs: Iterable[Json], **options: Unpack[SubmitOptions]
    ) -> Iterator[ItemResult]:
        """Results in item order; the inputs are read in the caller's own thread, as they are wanted."""
        options["keep_results"] = False
        if isinstance(inputs, Sequence):
            run = self.submit(flow, inputs, **options)
            batches = self.iterate(run.batches())
        else:
            handed = HandedSource(inputs)
            run = SyncRun(self, self._serving(handed, self._engine.submit, flow, handed, **options))
            batches = self._portal.drawn(run.batches(), partial(self._serving, handed))
        try:
            for batch in batches:
                yield from batch
        finally:
            if self._portal.is_open:
                run.cancel()

    def _serving(
        self, handed: HandedSource, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> T:
        """As `call`, and read inputs meanwhile when the engine asks for some."""
        with self._portal.running(function, *args, **kwargs) as future:
            future.add_done_callback(handed.wake)
            while handed.is_asked(future):
                self._portal.start(handed.supply, handed.read())
            return result_of(future)

    def get(self, run_id: RunId) -> RunRecord:
        return self.call(self._engine.get, run_id)

    def get_run(self, run_id: RunId) -> SyncRun:
        return SyncRun(self, self.call(self._engine.get_run, run_id))

    def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        flow_name: str | None = None,
        limit: int = 100,
        before: RunId | None = None,
    ) -> Sequence[RunRecord]:
        return self.call(self._engine.list_runs, status=status, flow_name=flow_name, limit=limit, before=before)

    def cancel(self, run_id: RunId) -> None:
        self.call(self._engine.cancel, run_id)

    def pause(self, run_id: RunId) -> None:
        self.call(self._engine.pause, run_id)

    def resume(self, run_id: RunId) -> None:
        self.call(self._engine.resume, run_id)

    def delete(self, run_id: RunId) -> None:
        self.call(self._engine.delete, run_id)

    def retry(self, run_id: RunId, *, key: str | None = None) -> SyncRun:
        return SyncRun(self, self.call(self._engine.retry, run_id, key=key))

    def recover(self, run_id: RunId | None = None) -> Sequence[RunId]:
        return self.call(self._engine.recover, run_id)

    def find_run(self, text: str) -> RunId:
        return self.call(self._engine.find_run, text)

    def explain(self, run_id: RunId) -> Explanation:
        return self.call(self._engine.explain, run_id)

    def events(self, run_id: RunId) -> Iterator[Event]:
        return self.iterate(self._engine.events(run_id))

    def put_blob(self, content: bytes, type: BlobType = BlobType.DATA) -> BlobId:
        return self.call(self._engine.put_blob, content, type)

    def get_blob(self, blob_id: BlobId) -> Blob:
        return self.call(self._engine.get_blob, blob_id)

    def store_flow(self, flow: FlowLike) -> BlobId:
        return self.call(self._engine.store_flow, flow)

    def list_components(self) -> list[ListedComponent]:
        return self.call(self._engine.list_components)


def run(
    flow: FlowLike,
    input: Json = None,
    *,
    components: Components | Mapping[str, Components] | None = None,
    config: str | os.PathLike[str] | Mapping[str, Json] | None = None,
    **options: Unpack[SubmitOptions],
) -> Json:
    """Run a flow for one input in an engine of its own, and give its output.

    Raises:
        RunFailedError: the item failed; it carries code, message, step and run_id.
        FlowInvalidError, InputInvalidError, ConfigError: nothing was run.
    """
    with SyncEngine(components, config=config) as engine:
        return engine.run(flow, input, **options)


def run_batch(
    flow: FlowLike,
    inputs: Iterable[Json],
    *,
    components: Components | Mapping[str, Components] | None = None,
    config: str | os.PathLike[str] | Mapping[str, Json] | None = None,
    **options: Unpack[SubmitOptions],
) -> Iterator[ItemResult]:
    """Run a flow for many inputs in an engine of its own: lazy in, lazy out, in item order.

    Leaving the loop early cancels what is left.
    """
    with SyncEngine(components, config=config) as engine:
        yield from engine.run_batch(flow, inputs, **options)
