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
    store = MemoryBackend(keep_runs=2)
    inner = {"steps": [{"id": "i", "component": "/builtin/noop"}], "output": {"$step": "i"}}
    step = {"id": "m", "component": "/builtin/map", "input": {"workflow": {"$literal": inner}, "items": [1]}}

    async with Engine(store=store) as engine:
        runs = [await engine.submit({"steps": [step], "output": {"$step": "m"}}, [None], key=str(n)) for n in range(4)]
        for run in runs:
            await run.wait()
        kept = await store.list()
        keys = [await store.find_key(str(number)) is not None for number in range(4)]

    assert {record.root_id for record in kept} == {run.id for run in runs[2:]}
    assert len(kept) == 4
    assert keys == [False, False, True, True]
