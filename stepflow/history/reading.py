"""From a store to a run's history: the journal is read page by page, and only figures are kept."""

from collections.abc import Sequence

from stepflow.errors import RunNotFoundError
from stepflow.execution.events import Checkpointed, Event, RunStarted, decode_events
from stepflow.flow.model import Flow
from stepflow.history.kept import ROWS, read_flow_blob
from stepflow.history.needs import needs_of
from stepflow.history.records import History
from stepflow.history.sub_runs import read_sub_runs
from stepflow.history.summary import history_of
from stepflow.history.tally import Tally
from stepflow.protocols import Backend, Blobs
from stepflow.records import Entries, RunId, RunRecord


async def read_history(backend: Backend, run_id: RunId) -> History:
    """What a run did, as its record, its flow and every event that is still kept tell it.

    Needs no engine, and room for the items that are under way, whatever their number in all.

    Raises:
        RunNotFoundError: no run has this id.
        StoreError: the store could not be read.
    """
    record = await backend.runs.get(run_id)
    if record is None:
        raise RunNotFoundError(run_id)
    rows = await backend.journal.history(run_id, limit=ROWS)
    flow = await _flow_of(backend.blobs, record, rows)
    reading = Reading(flow)
    while rows:
        for row in rows:
            reading.take(row)
        rows = await backend.journal.history(run_id, after=reading.position, limit=ROWS)
    sub_runs = await read_sub_runs(backend.runs, run_id)
    return history_of(reading.tally, record, flow=flow, sub_runs=sub_runs, missing=reading.missing)


class Reading:
    """Tallies packed rows, and notices those that are gone."""

    def __init__(self, flow: Flow | None) -> None:
        steps = () if flow is None else flow.steps
        self.tally = Tally([step.id for step in steps], [step.component for step in steps], needs_of(flow))
        self.position = 0
        self.missing = 0
        self._is_behind = False  # events are missing, and no checkpoint has told yet what they amount to

    def take(self, row: Entries) -> None:
        events = decode_events(row.payload)
        gap = row.first - self.position - 1
        if gap > 0:
            self.missing += gap
            self._is_behind = True
            self.tally.miss()
        elif gap < 0:
            events = events[-gap:]
        self.position = row.first + row.count - 1
        if self._is_behind and len(events) == 1 and isinstance(events[0], Checkpointed):
            self._is_behind = False
            self.tally.restore(events[0])
        else:
            self.tally.apply_all(events)


async def _flow_of(blobs: Blobs, record: RunRecord, rows: Sequence[Entries]) -> Flow | None:
    """The flow that the run was started with, as its overrides changed it."""
    first: Event | None = decode_events(rows[0].payload)[0] if rows else None
    overrides = first.overrides if isinstance(first, RunStarted) else None
    return await read_flow_blob(blobs, record.flow_id, overrides)
