"""The same seed gives the same event log, to the letter, whatever the hash seed of the process."""

import os
import subprocess
import sys
import textwrap

import pytest

PLAY = """
    import asyncio, sys
    import stepflow
    from stepflow.execution.events import encode_events
    from stepflow.testing.engine import ScriptedEngine

    inner = {
        "steps": [{"id": "x", "component": "/slow", "input": {"$input": "$"}}],
        "output": {"$step": "x"},
    }
    retry = {"action": "retry", "maxRetries": 3}
    flow = {
        "name": "everything",
        "steps": [
            {"id": "left", "component": "/slow", "input": {"$input": "n"}, "timeout": 40, "onError": retry},
            {"id": "right", "component": "/moody", "input": {"$input": "n"}, "onError": retry},
            {"id": "never", "component": "/moody", "input": {"$input": "n"}},
            {"id": "both", "component": "/builtin/map",
             "input": {"workflow": {"$literal": inner}, "items": [{"$step": "left"}, {"$step": "right"}]}},
            {"id": "log", "component": "/moody", "input": 4, "mustExecute": True},
        ],
        "output": {"$if": {"$step": "right"}, "then": {"$step": "both"}, "else": {"$step": "never"}},
    }

    async def slow(n):
        await asyncio.sleep((n or 0) * 13 % 50)
        return n

    def moody(n):
        if n % 3 == 0:
            raise stepflow.ResourceUnavailableError(f"not {n}")
        return n

    with ScriptedEngine(seed=int(sys.argv[1])) as engine:
        engine.script("/slow", slow)
        engine.script("/moody", moody)
        engine.run_batch(flow, [{"n": n} for n in range(24)], max_concurrency=7)
        engine.run_batch(flow, [{"n": 5}], key="again")
        for run_id, event in engine.seen:
            print(run_id, encode_events([event]).decode())
"""


def played(*, seed: int, hash_seed: int) -> list[str]:
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PLAY), str(seed)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.splitlines()


@pytest.fixture(scope="module")
def first() -> list[str]:
    return played(seed=7, hash_seed=0)


@pytest.mark.parametrize("hash_seed", [1, 4711])
def test_the_hash_seed_changes_nothing(first: list[str], hash_seed: int) -> None:
    assert played(seed=7, hash_seed=hash_seed) == first


def test_the_log_has_retries_sub_runs_and_time_outs(first: list[str]) -> None:
    assert len(first) > 400
    assert all(any(f'["{tag}"' in line for line in first) for tag in ("again", "sub", "fail", "end"))
    assert any("TIMEOUT" in line for line in first)


def test_another_seed_gives_another_log(first: list[str]) -> None:
    assert played(seed=8, hash_seed=0) != first
