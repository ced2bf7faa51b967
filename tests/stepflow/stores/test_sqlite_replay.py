"""What a recovery reads amounts to what happened, wherever the journal was cut."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.execution.events import decode_events
from stepflow.execution.options import RecoverySettings
from stepflow.execution.state import RunState
from stepflow.flow.read import read_flow
from stepflow.plan.compile import compile_flow
from stepflow.plan.model import PENDING, Plan
from stepflow.records import Entries, Json, RunId, RunStatus, Verdict, Write
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.journal import SqliteJournal
from stepflow.stores.sqlite.signals import SqliteSignals

pytestmark = pytest.mark.anyio

ITEMS = 60
FLOW = read_flow(
    {
        "steps": [
            {"id": "a", "component": "/same", "input": {"$input": "$"}},
            {"id": "b", "component": "/same", "input": {"$step": "a"}},
            {"id": "c", "component": "/odd_fails", "input": {"$step": "a"}, "onError": {"action": "useDefault"}},
        ],
        "output": [{"$step": "b"}, {"$step": "c"}],
    }
)


Reading: TypeAlias = Callable[..., Awaitable[Sequence[Entries]]]


class KeptJournal(SqliteJournal):
    """A journal that keeps each write that it was given."""

    def __init__(self, file: SqliteFile, signals: SqliteSignals) -> None:
        super().__init__(file, signals)
        self.writes: list[Write] = []

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        self.writes += writes
        return await super().commit(writes)


class KeptBackend(SqliteBackend):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._journal = KeptJournal(self._file, self._signals)

    @property
    def journal(self) -> KeptJournal:
        assert isinstance(self._journal, KeptJournal)
        return self._journal


def _components() -> Components:
    app = Components()

    @app.component("/same")
    async def same(input: Json) -> Json:
        return input

    @app.component("/odd_fails")
    async def odd_fails(input: int) -> int:
        if input % 2:
            raise ValueError(f"{input} is odd")
        return input

    return app


async def _stream() -> AsyncIterator[int]:
    for number in range(ITEMS):
        yield number


async def _state(reading: Reading, run_id: RunId, plan: Plan) -> tuple[RunState, int]:
    """The state that a reading amounts to, and how many events it took."""
    state, after, events = RunState(plan, {}), 0, 0
    while rows := await reading(run_id, after=after, limit=10):
        for row in rows:
            for event in decode_events(row.payload):
                state.apply(event)
                events += 1
        after = rows[-1].first + rows[-1].count - 1
    return state, events


def _facts(state: RunState) -> tuple[object, ...]:
    """Everything that going on depends on; steps and items that have ended since they became ready are left out."""
    ready = {
        (index, step)
        for index, step in state.ready
        if index in state.items and state.items[index].outputs[step] is PENDING
    }
    closing = {item.index for item in state.closing if item.index in state.items}
    return state.snapshot(), state.status, state.opened, sorted(ready), sorted(closing)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_recovery_reads_less_and_comes_to_the_same(tmp_path: Path, is_streamed: bool) -> None:
    often = RecoverySettings(checkpoint_interval=100)
    kept = KeptBackend(tmp_path / "whole.db")
    async with Engine(_components(), store=kept, max_concurrency=7, recovery=often) as engine:
        run = await engine.submit(FLOW, _stream() if is_streamed else list(range(ITEMS)))
        await run.wait()
    plan = compile_flow(FLOW)
    saved = 0

    async with SqliteBackend(tmp_path / "cut.db", synchronous="NORMAL") as store:
        for write in kept.journal.writes:
            await store.journal.commit([write])
            whole, all_events = await _state(store.journal.history, run.id, plan)
            recovered, events = await _state(store.journal.read, run.id, plan)

            assert _facts(recovered) == _facts(whole)
            assert events <= all_events
            saved = max(saved, all_events - events)
        stored = await store.runs.get(run.id)

    assert saved > 200
    assert stored is not None
    assert (stored.status, stored.succeeded) == (RunStatus.COMPLETED, ITEMS)
