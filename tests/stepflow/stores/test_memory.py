"""The memory store is a store like any other."""

import pytest

from stepflow.engine import Engine
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.suites.store import StoreSuite


class TestMemoryBackend(StoreSuite):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()


@pytest.mark.anyio
async def test_runs_that_ended_long_ago_are_dropped_with_their_sub_runs() -> None:
    store = MemoryBackend(keep_runs=2, keep_s=0)
    inner = {"steps": [{"id": "i", "component": "/builtin/noop"}], "output": {"$step": "i"}}
    step = {"id": "m", "component": "/builtin/map", "input": {"workflow": {"$literal": inner}, "items": [1]}}

    async with Engine(store=store) as engine:
        runs = []
        for number in range(4):
            run = await engine.submit({"steps": [step], "output": {"$step": "m"}}, [None], key=str(number))
            await run.wait()
            runs.append(run)
        kept = await store.list()
        keys = [await store.find_key(str(number)) is not None for number in range(4)]

    assert {record.root_id for record in kept} == {run.id for run in runs[2:]}
    assert len(kept) == 4
    assert keys == [False, False, True, True]


@pytest.mark.anyio
async def test_a_run_that_just_ended_is_kept_whatever_their_number() -> None:
    store = MemoryBackend(keep_runs=1)

    async with Engine(store=store) as engine:
        runs = [await engine.submit({"output": number}, [None]) for number in range(5)]
        records = [await run.wait() for run in runs]

    assert [record.succeeded for record in records] == [1] * 5
