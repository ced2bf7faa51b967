"""What a store holds in the end, read through a store of its own."""

from collections import defaultdict

import jobs
from oracle import Journals, Step, Stored

from stepflow.execution.events import Event, RunClaimed, StepDefaulted, StepStarted, StepSucceeded, decode_events
from stepflow.protocols import Backend
from stepflow.records import RunRecord
from stepflow.stores.open import open_reader

PAGE = 500


async def read_store(store: str) -> tuple[dict[int, Stored], Journals]:
    """Every job by its number, and what the journals of all runs say."""
    stored: dict[int, Stored] = defaultdict(lambda: Stored([], "missing", []))
    journals = Journals({}, [], {})
    async with open_reader(store) as backend:
        steps: dict[str, list[str]] = {name: [step["id"] for step in flow["steps"]] for name, flow in _named().items()}
        for record in await _records(backend):
            await _read_journal(backend, record, steps[record.flow_name or ""], journals)
            if record.key is None:
                continue
            job = stored[int(record.key.removeprefix("job-"))]
            job.runs.append(record.id)
            job.status = record.status.value
            job.outputs = await _outputs(backend, record.id)
    return dict(stored), journals


def _named() -> dict[str, dict[str, list[dict[str, str]]]]:
    return {flow["name"]: flow for flow in (*(flow for flow, _ in jobs.FLOWS), jobs.INNER)}


async def _records(backend: Backend) -> list[RunRecord]:
    found: list[RunRecord] = []
    while page := await backend.runs.list(limit=PAGE, before=found[-1].id if found else None):
        found += page
    return found


async def _outputs(backend: Backend, run_id: str) -> list[object]:
    outputs: list[object] = []
    while page := await backend.runs.results(run_id, after=len(outputs) - 1):
        outputs += [result.output for result in page]
    return outputs


async def _read_journal(backend: Backend, record: RunRecord, steps: list[str], journals: Journals) -> None:
    position, began = 0, record.created_at
    while rows := await backend.journal.history(record.id, after=position):
        for row in rows:
            for event in decode_events(row.payload):
                _note(event, record.id, began, steps, journals)
        position = rows[-1].first + rows[-1].count - 1


def _note(event: Event, run_id: str, began: float, steps: list[str], journals: Journals) -> None:
    match event:
        case RunClaimed(name=name, at=at):
            journals.claims.setdefault(run_id, []).append((began + at / 1_000, int(name.removeprefix("slot-"))))
        case StepSucceeded(item=item, step=step, at=at) | StepDefaulted(item=item, step=step, at=at):
            journals.succeeded.setdefault((run_id, item, steps[step]), began + at / 1_000)
        case StepStarted(item=item, step=step):
            started: Step = (run_id, item, steps[step])
            if started in journals.succeeded:
                journals.begun_after_success.append(started)
        case _:
            pass
