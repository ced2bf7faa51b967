"""Whatever engines do to a store, and in whatever order: nothing that was committed is lost, and one owner writes."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from store_machine import StoreMachine
from store_stage import MemoryStage, PostgresStage, SqliteStage, Stage

QUICK = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
THOROUGH = settings(QUICK, max_examples=150, stateful_step_count=80)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def make_stage(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Stage]:
    if request.param == "memory":
        return MemoryStage
    if request.param == "sqlite":
        return partial(SqliteStage, tmp_path)
    return partial(PostgresStage, request.getfixturevalue("postgres_url"))


def test_engines_keep_what_the_store_promises(make_stage: Callable[[], Stage]) -> None:
    with closing(make_stage()) as stage:
        run_state_machine_as_test(partial(StoreMachine, stage), settings=QUICK)


@pytest.mark.slow
def test_engines_keep_what_the_store_promises_for_long(make_stage: Callable[[], Stage]) -> None:
    with closing(make_stage()) as stage:
        run_state_machine_as_test(partial(StoreMachine, stage), settings=THOROUGH)
