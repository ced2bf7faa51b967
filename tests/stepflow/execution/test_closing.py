"""An engine that closes waits for nothing that can't come, and says why."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from stepflow.components import Components
from stepflow.engine import CLOSING_S, Engine
from stepflow.errors import EngineClosedError, StoreError, StoreUnavailableError
from stepflow.execution.handle import Run
from stepflow.protocols import Store
from stepflow.records import Verdict, Write
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.clock import TurnedClock

from .conftest import chain

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]


class BreakingBackend(SqliteBackend):
    """A store whose commits fail once the test says how."""

    error: Exception | None = None

    @property
    def journal(self) -> Store:  # type: ignore[override]
        return _Journal(self, super().journal)


class _Journal:
    def __init__(self, backend: BreakingBackend, journal: Store) -> None:
        self._backend = backend
        self._journal = journal
        self.read, self.history = journal.read, journal.history

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        await anyio.lowlevel.checkpoint()
        if self._backend.error is not None:
            raise self._backend.error
        return await self._journal.commit(writes)


@pytest.fixture
def app() -> Components:
    app = Components()

    @app.component("/work")
    async def work(value: int) -> int:
        await anyio.sleep(1)
        return value

    return app


@pytest.mark.parametrize("error", [StoreError("the disk is gone"), RuntimeError("a bug")], ids=["store", "bug"])
async def test_an_engine_that_can_record_nothing_more_ends_at_once_and_tells_why(
    make_engine: MakeEngine, app: Components, tmp_path: Path, error: Exception
) -> None:
    backend = BreakingBackend(tmp_path / "runs.db")
    clock = TurnedClock()
    raised: list[Exception] = []
    told: list[str] = []

    async def wait(run: Run) -> None:
        try:
            await run.wait()
        except EngineClosedError as closed:
            told.append(str(closed))

    async with anyio.create_task_group() as outside:
        try:
            async with make_engine(app, store=backend) as engine:
                runs = [await engine.submit(chain("/work"), [1, 2], max_concurrency=1) for _ in range(2)]
                outside.start_soon(wait, runs[0])
                backend.error = error
                await anyio.sleep(60)
        except type(error) as ended:
            raised.append(ended)

    with pytest.raises(EngineClosedError, match=f"the engine has ended.*{error}; open another one"):
        await engine.list_runs()
    assert raised == [error]
    assert clock.elapsed_s < 1.1  # the first step takes one
    assert told == [
        f"the engine was closed before the run ended: what happened can't be recorded: {type(error).__name__}: {error}"
    ]


async def test_an_engine_that_is_cancelled_when_it_has_just_opened_ends_at_once(
    make_engine: MakeEngine, app: Components, tmp_path: Path
) -> None:
    clock = TurnedClock()

    with anyio.CancelScope() as scope:
        async with make_engine(app, store=tmp_path / "runs.db"):
            scope.cancel()
            await anyio.lowlevel.checkpoint()

    assert scope.cancelled_caught
    assert clock.elapsed_s == 0


async def test_a_store_that_is_away_delays_closing_only_so_long_and_is_named(
    make_engine: MakeEngine, app: Components, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="stepflow.engine")
    backend = BreakingBackend(tmp_path / "runs.db")

    async with make_engine(app, store=backend) as engine:
        await engine.submit(chain("/work"), [1, 2, 3])
        backend.error = StoreUnavailableError("away")
        clock = TurnedClock()

    assert clock.elapsed_s == CLOSING_S
    assert "the store was not told within 5 s that this engine closes" in caplog.text
