"""Engines that die over a store that fails, with queues and workers that do so too, on a seed."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from stepflow.components import Components
from stepflow.records import Json
from stepflow.testing.simulation import Simulated, SimulationError, simulate
from stepflow_grpc.queues.task_queues import TaskQueues
from stepflow_grpc.testing import QueueWorkers

FLOWS: dict[str, dict[str, Any]] = {
    "one": {
        "steps": [{"id": "a", "component": "/queue/work", "input": {"$input": "$"}}],
        "output": {"$step": "a"},
    },
    "through-both": {
        "steps": [
            {"id": "a", "component": "/queue/work", "input": {"$input": "$"}},
            {"id": "b", "component": "/here", "input": {"$step": "a"}},
            {"id": "c", "component": "/queue/work", "input": {"$step": "b"}},
            {"id": "d", "component": "/queue/other", "input": {"$step": "a"}},
        ],
        "output": [{"$step": "c"}, {"$step": "d"}],
    },
}


def work(component: str, value: Json) -> Json:
    assert isinstance(value, int)
    return value + (1 if component == "work" else 100)


def components() -> Components:
    app = Components()

    @app.component("/here")
    async def here(value: Any) -> Any:
        return 2 * value

    return app


def played(name: str, seeds: Sequence[int], **options: Any) -> list[Simulated]:
    workers = partial(QueueWorkers, work=work, components=("work", "other"))
    inputs = list(range(8))
    return simulate(FLOWS[name], inputs, components=components(), beside=workers, seeds=seeds, **options)


@pytest.mark.parametrize(
    ("name", "seeds"), [("one", (*range(8), 127, 185)), ("through-both", (*range(100, 106), 110, 113, 2020))]
)
def test_every_seed_comes_to_the_results_of_the_uncut_run(name: str, seeds: Sequence[int]) -> None:
    found = played(name, seeds)

    assert len(found) == len(seeds)
    assert sum(one.kills for one in found) > len(seeds) / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("engines", [1, 3])
def test_hundreds_of_seeds_come_to_the_results_of_the_uncut_run(name: str, engines: int) -> None:
    seeds = range(1_000, 1_150)

    assert len(played(name, seeds, engines=engines)) == len(seeds)


@pytest.mark.slow
def test_queues_that_take_any_answer_for_any_task_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = TaskQueues.complete

    def mixed_up(self: TaskQueues, task_id: str, *args: Any, **options: Any) -> Any:
        return complete(self, next(reversed(self._entries), task_id), *args, **options)

    monkeypatch.setattr(TaskQueues, "complete", mixed_up)

    with pytest.raises(SimulationError):
        played("one", range(3))
