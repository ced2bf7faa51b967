"""What happened in a run and is not in its journal yet, and how it is written there."""

from collections.abc import Sequence
from typing import Any

from stepflow.execution.events import (
    Event,
    InputsClosed,
    ItemEnded,
    ItemsAdmitted,
    RunEnded,
    StepRetried,
    encode_events,
)
from stepflow.execution.sealing import Sealer
from stepflow.execution.state import RunState
from stepflow.records import ItemResult, Lease, RunChange, RunId, RunRecord, RunStatus, Write


class Unwritten:
    """A run's events since its last commit, in their order, with the results among them."""

    def __init__(self, run_id: RunId, lease: Lease, started_at: float, state: RunState) -> None:
        self.events: list[Event] = []
        self.retries: list[StepRetried] = []
        self.sealer: Sealer | None = None  # where secrets are sealed in what is written
        self.first = 1  # the position of the next entry
        self.is_stored_as_paused = False
        self._results: list[ItemResult] = []
        self._has_inputs = False  # among the events
        self._since_checkpoint = 0
        self._min_item = -1
        self._max_item = -1
        self._run_id = run_id
        self._lease = lease
        self._started_at = started_at
        self._state = state

    def add(self, event: Event) -> None:
        self.events.append(event)
        if type(event) is ItemsAdmitted:
            self._has_inputs = True

    def add_of_item(self, event: Any, item: int) -> None:
        """One that speaks of an item."""
        self.events.append(event)
        if item > self._max_item:
            self._max_item = item
        if item < self._min_item or self._min_item < 0:
            self._min_item = item

    def add_result(self, event: ItemEnded) -> None:
        self._results.append(ItemResult(event.item, event.outcome))

    def restored(self, last: int) -> None:
        """The journal has entries, the last one at this position."""
        self.first = last + 1
        self.is_stored_as_paused = self._state.is_paused

    def rows(self) -> list[tuple[list[Event], bytes]]:
        """The events as they are to be packed, each row with its payload.

        Raises:
            RecursionError, TypeError, ValueError: an event holds what JSON can't say.
        """
        return [(row, encode_events(row)) for row in self._sealed(self._rows())]

    def take(
        self,
        rows: Sequence[tuple[list[Event], bytes]],
        checkpoint_every: int,
        record: RunRecord,
        supersedes: RunId | None,
    ) -> list[Write]:
        """The writes that these rows make, and a checkpoint where one is due; nothing is unwritten any more.

        Args:
            checkpoint_every: events between two checkpoints; 0: none is made.
            record: goes with the first write of a run.
            supersedes: as in `Write`.
        """
        self._since_checkpoint += len(self.events)
        self.events = []
        writes = [self._write(row, payload, record, supersedes) for row, payload in rows]
        self._min_item = self._max_item = -1
        self._has_inputs = False
        if 0 < checkpoint_every <= self._since_checkpoint and not self._state.has_ended:
            writes.append(self._checkpoint())
        return writes

    def drop_unwritable(self) -> None:
        """Forget the pending events that can't be encoded, and an end that counted on them."""
        self.events = [event for event in self.events if type(event) is not RunEnded and self._is_writable(event)]
        ended = {event.item for event in self.events if type(event) is ItemEnded}
        self._results = [result for result in self._results if result.index in ended]

    def _sealed(self, rows: list[list[Event]]) -> list[list[Event]]:
        """The events as they may be written."""
        return rows if self.sealer is None else self.sealer.seal(rows)

    def _is_writable(self, event: Event) -> bool:
        try:
            encode_events(self._sealed([[event]])[0])
        except (RecursionError, TypeError, ValueError):
            return False
        return True

    def _rows(self) -> list[list[Event]]:
        """The pending events as they are packed: inputs by themselves, since they are kept longer than the rest."""
        if not self._has_inputs:
            return [self.events] if self.events else []
        rows: list[list[Event]] = []
        for event in self.events:
            if not rows or ItemsAdmitted in (type(event), type(rows[-1][0])):
                rows.append([])
            rows[-1].append(event)
        return rows

    def _write(self, events: list[Event], payload: bytes, record: RunRecord, supersedes: RunId | None) -> Write:
        first, self.first = self.first, self.first + len(events)
        is_new = first == 1
        results, self._results = self._results, []
        if self.sealer is not None and results:
            results = self.sealer.ended(results)
        min_item, max_item, head = self._min_item, self._max_item, events[0]
        if type(head) is ItemsAdmitted:
            min_item, max_item = head.first, head.first + len(head.inputs) - 1
        last = events[-1]
        return Write(
            run_id=self._run_id,
            lease=self._lease,
            first=first,
            count=len(events),
            payload=payload,
            min_item=min_item,
            max_item=max_item,
            has_inputs=type(head) is ItemsAdmitted,
            results=results,
            new=record if is_new else None,
            supersedes=supersedes if is_new else None,
            change=self._change(last, bool(results)),
        )

    def _change(self, last: Event, has_results: bool) -> RunChange | None:
        state = self._state
        if type(last) is RunEnded:
            return RunChange(
                status=last.status,
                ended_at=self._started_at + last.at / 1_000,
                total=state.total,
                succeeded=state.succeeded,
                failed=state.failed,
                error=last.error,
            )
        status = None
        if state.is_paused is not self.is_stored_as_paused:
            self.is_stored_as_paused = state.is_paused
            status = RunStatus.PAUSED if state.is_paused else RunStatus.RUNNING
        if has_results or status is not None or type(last) is InputsClosed:
            return RunChange(status=status, total=state.total, succeeded=state.succeeded, failed=state.failed)
        return None

    def _checkpoint(self) -> Write:
        self._since_checkpoint = 0
        event = self._state.snapshot()
        self._state.apply(event)
        first, self.first = self.first, self.first + 1
        return Write(
            run_id=self._run_id,
            lease=self._lease,
            first=first,
            count=1,
            payload=encode_events(self._sealed([[event]])[0]),
            min_item=event.low_water,
            is_checkpoint=True,
        )
