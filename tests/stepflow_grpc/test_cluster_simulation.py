"""Engines that die over a store that fails, with queues and workers that do so too, on a seed."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stepflow.components import Components
from stepflow.records import Json
from stepflow.testing.simulation import Faults, Simulated, SimulationError, simulate
from stepflow_grpc.queues.settings import Settings
from stepflow_grpc.queues.task_queues import TaskQueues
from stepflow_grpc.testing import QueueWorkers

INNER = {
    "steps": [
        {"id": "a", "component": "/queue/work", "input": {"$input": "$"}},
        {"id": "b", "component": "/here", "input": {"$step": "a"}},
    ],
    "output": {"$step": "b"},
}
MAPPED = {"workflow": {"$literal": INNER}, "items": [{"$step": "a"}, 3]}
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
    "sub-runs": {
        "steps": [
            {"id": "a", "component": "/queue/other", "input": {"$input": "$"}},
            {"id": "m", "component": "/builtin/map", "input": MAPPED},
        ],
        "output": {"$step": "m"},
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


TIGHT = Settings(queue_timeout_s=15.0, execution_timeout_s=9.0)
"""Times that tasks exceed now and then, which are then tried again."""

FIRST_FAULTS = Faults(stop_rate=0, refusal_rate=0)
"""Those that seeds failed under before there were others: what they draw is to stay the same."""


def played(
    name: str,
    seeds: Sequence[int],
    *,
    is_apart: bool = False,
    strays: bool = True,
    limits: Settings | None = None,
    **options: Any,
) -> list[Simulated]:
    workers = partial(
        QueueWorkers, work=work, components=("work", "other"), is_apart=is_apart, strays=strays, settings=limits
    )
    inputs = list(range(8))
    return simulate(FLOWS[name], inputs, components=components(), beside=workers, seeds=seeds, **options)


@pytest.mark.parametrize(
    ("name", "seeds"), [("one", (0, 1, 127, 185)), ("through-both", (100, 101, 103, 105, 110, 113, 2020))]
)
def test_seeds_that_failed_once_come_to_the_results_of_the_uncut_run(name: str, seeds: Sequence[int]) -> None:
    found = played(name, seeds, faults=FIRST_FAULTS, strays=False)

    assert sum(one.kills for one in found) > len(seeds) / 2


@pytest.mark.parametrize(
    ("name", "engines", "is_apart", "limits"),
    [("one", 2, False, TIGHT), ("through-both", 3, True, None), ("sub-runs", 2, False, None)],
)
def test_every_seed_comes_to_the_results_of_the_uncut_run(
    name: str, engines: int, is_apart: bool, limits: Settings | None
) -> None:
    found = played(name, range(4), engines=engines, is_apart=is_apart, limits=limits)

    assert len(found) == 4
    assert sum(one.kills for one in found) > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize(
    ("engines", "is_apart", "limits"), [(1, False, None), (3, False, TIGHT), (3, True, None)], ids=["1", "3", "apart"]
)
def test_hundreds_of_seeds_come_to_the_results_of_the_uncut_run(
    name: str, engines: int, is_apart: bool, limits: Settings | None
) -> None:
    seeds = range(1_000, 1_100)

    assert len(played(name, seeds, engines=engines, is_apart=is_apart, limits=limits)) == len(seeds)


SCRIPT = """
import gc, random, sys

sys.path.insert(0, sys.argv[1])
from test_cluster_simulation import played

draw, garbage = random.Random(int(sys.argv[2])), []
for seed in map(int, sys.argv[5:]):
    garbage += [[object() for _ in range(draw.randrange(3_000))], [bytearray(64) for _ in range(draw.randrange(3_000))]]
    draw.shuffle(garbage)
    del garbage[: len(garbage) // 2]
    gc.collect()
    print(played(sys.argv[3], [seed], engines=int(sys.argv[4])))
"""
"""Plays seeds one after the other in memory that is littered with what other programs would leave there."""


def logs(name: str, seeds: Sequence[int], *, engines: int, hash_seed: int) -> dict[int, str]:
    arguments = [str(Path(__file__).parent), str(hash_seed), name, str(engines), *map(str, seeds)]
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=1_800,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
    )
    assert answer.returncode == 0, answer.stderr
    return dict(zip(seeds, answer.stdout.splitlines(), strict=True))


def assert_repeated(name: str, seeds: Sequence[int], *, engines: int) -> None:
    """In two processes, in one of them the last seed first."""
    with ThreadPoolExecutor() as threads:
        once = threads.submit(logs, name, seeds, engines=engines, hash_seed=1)
        again = threads.submit(logs, name, seeds[::-1], engines=engines, hash_seed=4711)
    one, two = once.result(), again.result()

    assert [seed for seed in seeds if one[seed] != two[seed]] == []
    assert all("RunEnded" in log for log in one.values())


@pytest.mark.parametrize(("name", "seeds"), [("one", (4, 29)), ("through-both", (113,))])
def test_a_seed_plays_the_same_to_the_letter(name: str, seeds: Sequence[int]) -> None:
    assert_repeated(name, seeds, engines=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("engines", [1, 3])
def test_hundreds_of_seeds_play_the_same_to_the_letter(name: str, engines: int) -> None:
    assert_repeated(name, range(2_000, 2_050), engines=engines)


@pytest.mark.slow
def test_queues_that_take_any_answer_for_any_task_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = TaskQueues.complete

    def mixed_up(self: TaskQueues, task_id: str, *args: Any, **options: Any) -> Any:
        return complete(self, next(reversed(self._entries), task_id), *args, **options)

    monkeypatch.setattr(TaskQueues, "complete", mixed_up)

    with pytest.raises(SimulationError):
        played("one", range(3))
