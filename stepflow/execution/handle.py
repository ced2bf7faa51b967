"""Run: the handle on a run that was submitted."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from stepflow.errors import RunNotFoundError, StoreError
from stepflow.execution.events import Event, decode_events
from stepflow.execution.executor import Executor
from stepflow.execution.live import LiveRun, Resumed
from stepflow.protocols import Backend
from stepflow.records import BlobId, ErrorCode, Failed, ItemResult, RunId, RunRecord, RunStatus

FETCHED = 256
"""Most results that are read at once."""

STREAM_WINDOW = 1_000
"""Items that may begin beyond the one whose result is wanted next, where results are read only once."""


class Run:
    """A run that was submitted: wait for it, read its results, cancel it."""

    def __init__(self, backend: Backend, executor: Executor, record: RunRecord, live: LiveRun | None) -> None:
        self.id: RunId = record.id
        self.flow_id: BlobId = record.flow_id
        self._backend = backend
        self._executor = executor
        self._live = live

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    @property
    def resumed(self) -> Resumed | None:
        """Where the run stood when this engine took it over; None: it began here, or has ended before."""
        return None if self._live is None else self._live.resumed

    async def record(self) -> RunRecord:
        """What the store says of the run now."""
        record = await self._backend.runs.get(self.id)
        if record is None:
            raise RunNotFoundError(self.id)
        return record

    async def wait(self) -> RunRecord:
        """Wait for the end, and give the record of it.

        Raises:
            Exception: whatever the iterable of inputs raised, if it did.
            EngineClosedError: the engine was closed before the run ended.
        """
        if self._live is not None:
            await self._live.ended.wait()
            self._raise_if_lost()
        return await self.record()

    async def cancel(self) -> None:
        """End the run at once; what has ended before stays as it is."""
        self.cancel_now()
        if self._live is not None:
            await self._live.ended.wait()

    def cancel_now(self) -> None:
        """The same without waiting until the end is stored."""
        if self._live is not None and not self._live.ended.is_set():
            cancelled = Failed(ErrorCode.CANCELLED, "the run was cancelled")
            self._executor.end(self._live, RunStatus.CANCELLED, cancelled)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Every event the store still has, then new ones as they come, until the run's end."""
        live, position = self._live, 0
        while True:
            is_over = live is None or live.ended.is_set()
            while rows := await self._backend.journal.history(self.id, after=position):
                for entries in rows:
                    for offset, event in enumerate(decode_events(entries.payload)):
                        if entries.first + offset > position:
                            position = entries.first + offset
                            yield event
            if is_over or live is None:
                return
            if not live.ended.is_set():
                await live.wait_changed()

    async def results(self, *, order: str = "item") -> AsyncGenerator[ItemResult, None]:
        """Each item's result as soon as it is there, until the last.

        Args:
            order: `item`, or `completion` for the order in which the items end.
        """
        async with aclosing(self.result_batches(order=order)) as batches:
            async for batch in batches:
                for result in batch:
                    yield result

    async def result(self, index: int) -> ItemResult:
        """One item's result, once the run has ended."""
        return (await self._slice(index, index + 1))[0]

    def result_batches(self, *, order: str = "item") -> AsyncGenerator[Sequence[ItemResult], None]:
        """The same in lists of what is there at the time, none of them empty."""
        if order not in ("item", "completion"):
            raise ValueError(f"order is 'item' or 'completion', not {order!r}")
        return self._by_item() if order == "item" else self._by_completion()

    async def _by_item(self) -> AsyncGenerator[Sequence[ItemResult], None]:
        live, index = self._live, 0
        while True:
            is_over = live is None or live.ended.is_set()
            ready = await self._known(live)
            while index < ready:
                batch = await self._slice(index, min(ready, index + FETCHED))
                yield batch
                index += len(batch)
                await self._delivered(index)
            if is_over or live is None:
                self._raise_if_lost()
                return
            if index >= live.durable_low_water and not live.ended.is_set():
                await live.wait_changed()

    async def _slice(self, first: int, end: int) -> list[ItemResult]:
        batch: list[ItemResult] = []
        for result in await self._backend.runs.results(self.id, after=first - 1, limit=end - first):
            if result.index >= end:
                break
            batch += [await self._missing(index) for index in range(first + len(batch), result.index)]
            batch.append(result)
        return batch + [await self._missing(index) for index in range(first + len(batch), end)]

    async def _known(self, live: LiveRun | None) -> int:
        """Below which item every result is there."""
        if live is not None and not live.ended.is_set():
            return live.durable_low_water
        record = await self.record()
        return record.total if record.total is not None else record.succeeded + record.failed

    async def _by_completion(self) -> AsyncGenerator[Sequence[ItemResult], None]:
        live, place, seen = self._live, 0, bytearray()
        while True:
            is_over = live is None or live.ended.is_set()
            batch: list[ItemResult] = []
            for position, result in await self._backend.runs.completed(self.id, after=place):
                place = position
                seen.extend(bytes(max(0, result.index + 1 - len(seen))))
                seen[result.index] = 1
                batch.append(result)
            if batch:
                yield batch
                continue
            if is_over or live is None:
                self._raise_if_lost()
                break
            if not live.ended.is_set():
                await live.wait_changed()
        total = await self._known(live)
        rest = [await self._missing(index) for index in range(total) if index >= len(seen) or not seen[index]]
        if rest:
            yield rest

    async def _missing(self, index: int) -> ItemResult:
        """The result of an item that the run's end came before."""
        record = await self.record()
        if record.error is None and record.status is not RunStatus.CANCELLED:
            raise StoreError(f"the result of item {index} was read before: submit with keep_results=True to keep it")
        return ItemResult(index, record.error or Failed(ErrorCode.CANCELLED, "the run was cancelled"))

    async def _delivered(self, through: int) -> None:
        """Where results are read once: let as many more items begin, and forget what was read."""
        live = self._live
        if live is not None and live.gate is not None and through + STREAM_WINDOW - live.gate >= STREAM_WINDOW // 4:
            live.gate = through + STREAM_WINDOW
            self._executor.kick(live.tree)
            await self._backend.runs.forget_results(self.id, through=through - 1)

    def _raise_if_lost(self) -> None:
        if self._live is not None and self._live.lost is not None:
            raise self._live.lost
