"""Run: the handle on a run that was submitted."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec import to_builtins

from stepflow.errors import RunNotFoundError, StoreError
from stepflow.execution.events import Event, decode_events
from stepflow.execution.executor import Executor
from stepflow.execution.live import LiveRun, Resumed
from stepflow.execution.membership import CANCELLED, Membership
from stepflow.execution.references import Opening
from stepflow.protocols import Backend, Listener, ended_topic
from stepflow.records import BlobId, ItemResult, MessageKind, Outcome, RunId, RunRecord, RunStatus, Succeeded

FETCHED = 256
"""Most results that are read at once."""

LOOK_S = 0.5
"""How often to look at a run that another engine drives, where no signal comes."""

STREAM_WINDOW = 1_000
"""Items that may begin beyond the one whose result is wanted next, where results are read only once."""


class Run:
    """A run that was submitted: wait for it, read its results, cancel it. It may be another engine's."""

    def __init__(
        self, backend: Backend, executor: Executor, membership: Membership, record: RunRecord, live: LiveRun | None
    ) -> None:
        self.id: RunId = record.id
        self.flow_id: BlobId = record.flow_id
        self._backend = backend
        self._executor = executor
        self._membership = membership
        self._first = live
        self._has_ended = record.status.is_terminal
        self._record = record

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    @property
    def resumed(self) -> Resumed | None:
        """Where the run stood when this engine took it over; None: it began here, or has ended before."""
        live = self._live
        return None if live is None else live.resumed

    @property
    def _live(self) -> LiveRun | None:
        """The run where it is driven by this engine, or was until its end."""
        if self._first is not None and not self._first.is_abandoned:
            return self._first
        self._first = self._executor.live(self.id)
        return self._first

    @property
    def _opening(self) -> Opening | None:
        """With the keys that there are now."""
        return self._executor.opening(self._record)

    async def record(self) -> RunRecord:
        """What the store says of the run now."""
        record = await self._backend.runs.get(self.id)
        if record is None:
            raise RunNotFoundError(self.id)
        return record

    async def wait(self) -> RunRecord:
        """Wait for the end, and give the record of it.

        Raises:
            Exception: whatever the iterable of inputs raised, if it did. In a durable store that ends no run with
                a key: submitted again under it, the run goes on with the rest of its inputs.
            EngineClosedError: the engine was closed before the run ended.
        """
        await self._end()
        return await self.record()

    async def _end(self) -> None:
        live = self._live
        if live is not None and live.state.total is not None:
            await live.ended.wait()
        if not await self._is_over():
            with self._backend.signals.listen(ended_topic(self.id)) as ended:
                while not await self._is_over():
                    await self._change(ended)
        self._raise_if_broken_off()

    async def first_outcome(self) -> Outcome:
        """What became of the first item, at the end of the run."""
        await self._end()
        live = self._live
        if live is None or live.first_outcome is None:
            return (await self.result(0)).outcome
        outcome = live.first_outcome
        if isinstance(outcome, Succeeded) and isinstance(outcome.output, dict | list):
            return Succeeded(to_builtins(outcome.output))  # the caller's own
        return outcome

    async def _is_over(self) -> bool:
        """Whether nothing more will come, and a record of it can be read."""
        self._raise_if_lost()
        live = self._live
        if live is not None:
            if live.broken_off is not None and live.is_idle:
                return True
            return live.ended.is_set() and not live.is_abandoned
        if not self._has_ended:
            self._has_ended = (await self.record()).status.is_terminal
        return self._has_ended

    async def _change(self, ended: Listener) -> None:
        """Wait until there may be something new."""
        live = self._live
        if live is None:
            await ended.wait(LOOK_S)
        elif not live.ended.is_set():
            await live.wait_changed()

    async def cancel(self) -> None:
        """End the run at once, whoever drives it; what has ended before stays as it is."""
        live = self._live
        if live is None:
            await self._membership.ask(await self.record(), MessageKind.CANCEL)
            await self.wait()
            return
        self.cancel_now()
        await live.ended.wait()

    def cancel_now(self) -> None:
        """The same without waiting until the end is stored, if this engine drives the run."""
        live = self._live
        if live is not None and not live.ended.is_set():
            self._executor.end(live, RunStatus.CANCELLED, CANCELLED)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Every event the store still has, then new ones as they come, until the run's end."""
        position = 0
        with self._backend.signals.listen(ended_topic(self.id)) as ended:
            while True:
                is_over = await self._is_over()
                while rows := await self._backend.journal.history(self.id, after=position):
                    for entries in rows:
                        for offset, event in enumerate(self._decoded(entries.payload)):
                            if entries.first + offset > position:
                                position = entries.first + offset
                                yield event
                if is_over:
                    return
                await self._change(ended)

    def _decoded(self, payload: bytes) -> Sequence[Event]:
        opening = self._opening
        return decode_events(payload) if opening is None else opening.decode(payload)

    def _opened(self, result: ItemResult) -> ItemResult:
        opening = self._opening
        return result if opening is None else opening.result(result)

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
        index = 0
        with self._backend.signals.listen(ended_topic(self.id)) as ended:
            while True:
                is_over = await self._is_over()
                ready = await self._known(index)
                while index < ready:
                    batch = await self._slice(index, min(ready, index + FETCHED))
                    yield batch
                    index += len(batch)
                    await self._delivered(index)
                if is_over:
                    self._raise_if_broken_off()
                    return
                if index >= await self._known(index):
                    await self._change(ended)

    async def _slice(self, first: int, end: int) -> list[ItemResult]:
        batch: list[ItemResult] = []
        for result in await self._backend.runs.results(self.id, after=first - 1, limit=end - first):
            if result.index >= end:
                break
            batch += [await self._missing(index) for index in range(first + len(batch), result.index)]
            batch.append(self._opened(result))
        return batch + [await self._missing(index) for index in range(first + len(batch), end)]

    async def _known(self, index: int) -> int:
        """Below which item every result is there, as far as that is known beyond `index`."""
        live = self._live
        if live is not None and not live.ended.is_set():
            return live.durable_low_water
        record = await self.record()
        if record.status.is_terminal:
            return record.total if record.total is not None else record.succeeded + record.failed
        for result in await self._backend.runs.results(self.id, after=index - 1, limit=FETCHED):
            if result.index != index:
                break
            index += 1
        return index

    async def _by_completion(self) -> AsyncGenerator[Sequence[ItemResult], None]:
        place, seen = 0, bytearray()
        with self._backend.signals.listen(ended_topic(self.id)) as ended:
            while True:
                is_over = await self._is_over()
                batch: list[ItemResult] = []
                for position, result in await self._backend.runs.completed(self.id, after=place):
                    place = position
                    seen.extend(bytes(max(0, result.index + 1 - len(seen))))
                    seen[result.index] = 1
                    batch.append(self._opened(result))
                if batch:
                    yield batch
                    continue
                if is_over:
                    self._raise_if_broken_off()
                    break
                await self._change(ended)
        total = await self._known(0)
        rest = [await self._missing(index) for index in range(total) if index >= len(seen) or not seen[index]]
        if rest:
            yield rest

    async def _missing(self, index: int) -> ItemResult:
        """The result of an item that the run's end came before."""
        record = await self.record()
        if record.error is None and record.status is not RunStatus.CANCELLED:
            raise StoreError(f"the result of item {index} was read before: submit with keep_results=True to keep it")
        return ItemResult(index, record.error or CANCELLED)

    async def _delivered(self, through: int) -> None:
        """Where results are read once: let as many more items begin, and forget what was read."""
        live = self._live
        if live is not None and live.gate is not None and through + STREAM_WINDOW - live.gate >= STREAM_WINDOW // 4:
            live.gate = through + STREAM_WINDOW
            self._executor.kick(live.tree)
            await self._backend.runs.forget_results(self.id, through=through - 1)

    def _raise_if_lost(self) -> None:
        live = self._first
        if live is not None and live.lost is not None and live.ended.is_set():
            raise live.lost
        unreadable = self._executor.lost.get(self.id)
        if unreadable is not None:
            raise unreadable

    def _raise_if_broken_off(self) -> None:
        self._raise_if_lost()
        live = self._first
        if live is not None and live.broken_off is not None:
            raise live.broken_off
