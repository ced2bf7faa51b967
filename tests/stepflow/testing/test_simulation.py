"""Engines that die over a store that fails come to what one engine without faults comes to, on every seed."""

import os
import pickle
import subprocess
import sys
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from stepflow.components import Components, Context
from stepflow.errors import ComponentError, StoreUnavailableError
from stepflow.records import Committed
from stepflow.stores.memory.journal import MemoryJournal
from stepflow.testing.faults import FaultyJournal
from stepflow.testing.simulation import Faults, SimulationError, simulate

INNER = {"steps": [{"id": "i", "component": "/work", "input": {"$input": "$"}}], "output": {"$step": "i"}}
FLOWS: dict[str, Any] = {
    "sequence": {
        "steps": [
            {"id": "a", "component": "/work", "input": {"$input": "$"}},
            {"id": "b", "component": "/work", "input": {"$step": "a"}},
            {"id": "c", "component": "/work", "input": {"$step": "b"}},
        ],
        "output": {"$step": "c"},
    },
    "diamond": {
        "steps": [
            {"id": "top", "component": "/work", "input": {"$input": "$"}},
            {"id": "left", "component": "/work", "input": {"$step": "top"}},
            {"id": "right", "component": "/work", "input": {"$if": {"$step": "top"}, "then": {"$step": "top"}}},
            {"id": "end", "component": "/work", "input": [{"$step": "left"}, {"$step": "right"}]},
        ],
        "output": {"$step": "end"},
    },
    "retries": {
        "steps": [
            {
                "id": "flaky",
                "component": "/flaky",
                "input": {"$input": "$"},
                "onError": {"action": "retry", "maxRetries": 50, "backoff": {"type": "constant", "delayMs": 900}},
            }
        ],
        "output": {"$step": "flaky"},
    },
    "sub-runs": {
        "steps": [
            {"id": "m", "component": "/builtin/map", "input": {"workflow": {"$literal": INNER}, "items": [7, 8]}},
            {"id": "last", "component": "/work", "input": {"$step": "m", "path": "successful"}},
        ],
        "output": {"$step": "last"},
    },
}


def components() -> Components:
    app = Components()

    @app.component("/work")
    async def work(value: Any) -> Any:
        await anyio.sleep(0.7)
        return value

    @app.component("/flaky")
    async def flaky(value: Any, ctx: Context) -> Any:
        await anyio.sleep(0.2)
        if ctx.attempt < 3:
            raise ComponentError("not yet")
        return value

    return app


@pytest.mark.parametrize("name", FLOWS)
def test_every_seed_comes_to_the_results_of_the_uncut_run(name: str) -> None:
    played = simulate(FLOWS[name], [1, 2, 3], components=components(), seeds=range(12))

    assert sum(one.kills for one in played) > 6


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("engines", [1, 3])
def test_hundreds_of_seeds_come_to_the_results_of_the_uncut_run(name: str, engines: int) -> None:
    seeds = range(1_000, 1_300)

    assert len(simulate(FLOWS[name], [1, 2, 3], components=components(), seeds=seeds, engines=engines)) == len(seeds)


def test_a_seed_plays_the_same_to_the_letter() -> None:
    once, again = (simulate(FLOWS["sub-runs"], [1, 2], components=components(), seeds=[7]) for _ in range(2))

    assert once == again


def test_a_seed_plays_the_same_whatever_the_order_of_sets() -> None:
    script = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('played', {__file__!r})\n"
        "played = importlib.util.module_from_spec(spec); spec.loader.exec_module(played)\n"
        "print(played.simulate(played.FLOWS['sub-runs'], [1, 2], components=played.components(), seeds=[7]))\n"
    )
    shown = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=240,
        ).stdout
        for seed in ("1", "2")
    ]

    assert shown[0] == shown[1]
    assert "RunEnded" in shown[0]


def test_an_engine_that_nothing_fences_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = MemoryJournal._store

    def unchecked(self: MemoryJournal, write: Any) -> Any:
        run = self._tables.runs.get(write.run_id)
        return checked(self, write if run is None else replace(write, lease=run.lease))

    monkeypatch.setattr(MemoryJournal, "_store", unchecked)

    with pytest.raises(SimulationError):
        simulate(FLOWS["sequence"], [1, 2, 3], components=components(), seeds=range(60))


@pytest.mark.parametrize(
    "faults", [Faults(stop_rate=1), Faults(refusal_rate=0.2, kills=1)], ids=["engines that stop", "writes are refused"]
)
def test_faults_of_one_kind_alone_come_to_the_results_of_the_uncut_run(faults: Faults) -> None:
    played = simulate(FLOWS["sub-runs"], [1, 2], components=components(), seeds=range(8), faults=faults)

    assert sum(one.kills for one in played) > 3


def test_a_store_that_refuses_writes_and_says_that_it_has_them_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = FaultyJournal.commit

    async def said_to_be_done(self: FaultyJournal, writes: Any) -> Any:
        try:
            return await commit(self, writes)
        except StoreUnavailableError:
            return [Committed()] * len(writes)

    monkeypatch.setattr(FaultyJournal, "commit", said_to_be_done)

    with pytest.raises(SimulationError, match="is durable, and it is lost"):
        simulate(FLOWS["sequence"], [1, 2, 3], components=components(), seeds=range(5, 20))


def test_a_component_that_answers_differently_each_time_is_found_out() -> None:
    app, calls = Components(), []

    @app.component("/work")
    async def work(value: Any) -> Any:
        calls.append(value)
        return len(calls)

    with pytest.raises(SimulationError, match=r"seed 0: its results are .* seeds=\[0\]"):
        simulate(INNER, [1], components=app, seeds=[0])


def test_without_faults_nobody_dies() -> None:
    (played,) = simulate(
        INNER, [1], components=components(), seeds=[0], faults=Faults(kills=0, lost_rate=0, torn_rate=0)
    )

    assert played.kills == 0
    assert [result.output for result in played.results] == [1]


def test_the_error_goes_from_process_to_process() -> None:
    error = pickle.loads(pickle.dumps(SimulationError(3, "odd")))

    assert (error.seed, error.problem) == (3, "odd")
