"""Pools of real processes, without a server: what they run is a shell."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from polled import until
from serve_process import children_of, command_line, is_alive

from stepflow.clock import SystemChance, SystemClock
from stepflow_grpc.pools import replica
from stepflow_grpc.pools.pool import Pool
from stepflow_grpc.pools.pools import Pools

pytestmark = pytest.mark.anyio

URL = "127.0.0.1:1"


class HastyClock(SystemClock):
    """Keeps how long was to be waited, and waits a hundredth of it."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def timeout(self, seconds: float, *, shield: bool = False) -> Any:
        self.waits.append(seconds)
        return super().timeout(seconds / 100, shield=shield)


class Told:
    """Lines that workers said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.calls = 0

    async def __call__(self, text: str) -> None:
        self.lines += text.splitlines()
        self.calls += 1


def shell(script: str, queue: str = "q", **more: Any) -> Pool:
    return Pool(queue, command=("sh", "-c", script), **more)


@asynccontextmanager
async def running(
    *pools: Pool, clock: SystemClock | None = None, grace_s: float = 10.0, env: dict[str, str] | None = None
) -> AsyncIterator[tuple[Pools, Told]]:
    told = Told()
    found = Pools(pools, clock=clock or SystemClock(), chance=SystemChance(1), grace_s=grace_s)
    await found.start(URL, env or {}, told)
    try:
        yield found, told
    finally:
        await found.stop()


async def becomes(fact: Callable[[], Any]) -> Any:
    async with asyncio.timeout(60):
        while not (found := fact()):
            await asyncio.sleep(0.01)
    return found


def pids(told: Told) -> list[int]:
    """Those of processes that said `pid N`."""
    return [int(line.rpartition(" ")[2]) for line in told.lines if "] pid " in line]


async def test_workers_start_in_the_pools_directory_with_the_four_variables_and_those_of_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_SERVER", "inherited")
    script = (
        'echo "$STEPFLOW_TRANSPORT $STEPFLOW_TASKS_URL $STEPFLOW_QUEUE_NAME $STEPFLOW_BLOB_URL"; '
        'echo "$OF_THE_SERVER $MINE $STEPFLOW_TOKEN $(pwd)" >&2; exec sleep 100'
    )
    pool = shell(script, replicas=2, env={"MINE": "own", "STEPFLOW_BLOB_URL": "blobs:1"}, directory=tmp_path)

    async with running(pool, env={"STEPFLOW_TOKEN": "let-me-in"}) as (_, told):
        await becomes(lambda: len(told.lines) == 4)

    for number in (1, 2):
        assert f"[q/{number}] grpc {URL} q blobs:1" in told.lines
        assert f"[q/{number}] inherited own let-me-in {tmp_path}" in told.lines


async def test_a_worker_that_writes_without_end_costs_little_for_each_line() -> None:
    async with running(shell("seq 20000; exec sleep 100")) as (_, told):
        await becomes(lambda: len(told.lines) == 20_000)

    assert told.lines[-1] == "[q/1] 20000"
    assert told.calls < 2_000


async def test_workers_of_one_queue_have_numbers_of_their_own_and_know_how_long_they_may_take_to_end() -> None:
    script = "echo $STEPFLOW_SHUTDOWN_GRACE_SECS; exec sleep 100"

    async with running(shell(script, replicas=2), shell(script), shell(script, "other"), grace_s=9.0) as (_, told):
        await becomes(lambda: len(told.lines) == 4)

    assert sorted(told.lines) == ["[other/1] 8", "[q/1] 8", "[q/2] 8", "[q/3] 8"]


async def test_a_crash_loop_is_slowed_down_and_its_last_words_are_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = HastyClock()

    async with running(shell("echo no module named numpy >&2; exit 3"), clock=clock) as (pools, _):
        await becomes(lambda: pools.states()[0].deaths >= 6)
        (state,) = pools.states()

    assert state.crashing == 1
    assert state.last_death is not None
    assert (state.last_death.reason, state.last_death.said) == ("exit code 3", ("no module named numpy",))
    between = [wait for wait in clock.waits if wait != 1.0][:6]  # the other waits are for last words
    assert all(0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(between)), between
    third = caplog.records[2].getMessage()
    assert "worker q/1 (sh) died after" in third
    assert "exit code 3 (3 times in a row); it starts again in" in third
    assert "It said last:\n    no module named numpy" in third


async def test_a_worker_of_ours_that_dies_before_it_connects_crashes_however_long_its_start_took(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(replica, "HEALTHY_S", 0.0)
    (tmp_path / "slow.py").write_text("raise MemoryError('the model does not fit')")
    ours, other = Pool("q", "slow:app", directory=tmp_path), shell("exit 1")

    async with running(ours, other, clock=HastyClock()) as (pools, _):
        await becomes(lambda: all(state.deaths > 1 for state in pools.states()))
        found = [state.crashing for state in pools.states()]

    assert found == [1, 0]


async def test_a_worker_of_ours_that_has_connected_is_no_longer_said_to_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "HEALTHY_S", 0.0)
    script = "echo id $STEPFLOW_WORKER_ID; exec sleep 0.1"
    monkeypatch.setattr(Pool, "arguments", lambda pool: ["sh", "-c", script])

    async with running(Pool("q", "m:app"), clock=HastyClock()) as (pools, told):
        await becomes(lambda: pools.states()[0].crashing and len(told.lines) > 2)
        await becomes(lambda: noted(pools, told) and not pools.states()[0].crashing)

    assert len(set(told.lines)) == len(told.lines), "no two starts have the same name"


def noted(pools: Pools, told: Told) -> bool:
    """Say that every worker so far is connected."""
    pools.note_connected({line.rpartition(" ")[2] for line in told.lines})
    return True


async def test_healthy_workers_are_left_alone_when_others_die_and_start_again() -> None:
    clock = HastyClock()

    async with running(shell("echo pid $$; exec sleep 100", replicas=3), shell("exit 1"), clock=clock) as (pools, told):
        first = await becomes(lambda: len(pids(told)) == 3 and pids(told))
        os.kill(first[0], signal.SIGKILL)
        await becomes(lambda: len(pids(told)) == 4 and pools.states()[1].deaths >= 4)
        states = pools.states()
        alive = [is_alive(pid) for pid in pids(told)]

    assert alive == [False, True, True, True]
    assert [states[0].running, states[0].deaths, states[0].last_death.reason] == [3, 1, "killed by SIGKILL"]  # type: ignore[union-attr]


async def test_a_program_that_is_not_there_is_a_state_of_its_pool_and_of_no_other() -> None:
    async with running(Pool("q", command=("no-such-program",)), shell("exec sleep 100")) as (pools, _):
        await becomes(lambda: pools.states()[0].deaths and pools.states()[1].running)
        missing, other = pools.states()

    assert str(missing.last_death) == "can't be started: no-such-program: No such file or directory"
    assert (missing.running, missing.crashing, other.running, other.crashing) == (0, 1, 1, 0)


async def test_whatever_a_worker_started_ends_with_it() -> None:
    async with running(shell("sleep 100 & echo pid $!; echo pid $$; wait", replicas=2)) as (_, told):
        found = await becomes(lambda: len(pids(told)) == 4 and pids(told))

    assert not any(is_alive(pid) for pid in found)


async def test_what_a_dead_worker_leaves_behind_is_ended_too() -> None:
    async with running(shell("sleep 100 & echo pid $!; exit 1")) as (pools, told):
        await becomes(lambda: pools.states()[0].deaths and pids(told))
        await becomes(lambda: not is_alive(pids(told)[0]))


async def test_a_worker_that_does_not_want_to_end_is_killed_after_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    async with running(shell("trap '' TERM; echo pid $$; while :; do sleep 1; done"), grace_s=0.2) as (_, told):
        (pid,) = await becomes(lambda: pids(told))

    assert not is_alive(pid)
    assert "1 of 1 workers did not end within 0.2 s and are killed" in caplog.text


async def test_stopping_waits_for_no_pause_before_a_restart() -> None:
    async with running(shell("exit 1")) as (pools, _):
        await becomes(lambda: pools.states()[0].deaths)

    assert pools.states()[0].running == 0


async def test_what_looks_after_orphans_is_started_again_when_it_dies(caplog: pytest.LogCaptureFixture) -> None:
    async with running(shell("echo pid $$; exec sleep 100")) as (pools, told):
        (first,) = await becomes(lambda: pids(told))
        (guard,) = await becomes(guards)
        os.kill(guard, signal.SIGKILL)
        await becomes(lambda: not is_alive(guard))
        os.kill(first, signal.SIGKILL)
        await becomes(lambda: len(pids(told)) == 2)
        (heir,) = await becomes(guards)

    assert heir != guard
    assert "the process that ends orphaned workers has died" in caplog.text
    assert not guards()


def guards() -> list[int]:
    """Processes of ours that look after orphans."""
    return [pid for pid in children_of(os.getpid()) if b"orphans.py" in command_line(pid)]


ORPHANING = """
import asyncio, os
from stepflow.clock import SystemChance, SystemClock
from stepflow_grpc.pools.pool import Pool
from stepflow_grpc.pools.pools import Pools

async def main():
    stubborn = Pool("q", command=("sh", "-c", "trap '' HUP; sleep 100 & echo pid $!; echo pid $$; wait"), replicas=2)
    async def say(text):
        print(text, flush=True)

    pools = Pools([stubborn], clock=SystemClock(), chance=SystemChance(), grace_s=4)
    await pools.start("127.0.0.1:1", {}, say)
    await asyncio.sleep(100)

asyncio.run(main())
"""


def test_no_worker_outlives_a_server_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHANING], stdout=subprocess.PIPE, text=True) as process:
        told = Told()
        assert process.stdout is not None
        for _ in range(4):
            told.lines.append(process.stdout.readline().strip())
        process.kill()

    until(lambda: not any(is_alive(pid) for pid in pids(told)), "the workers of a killed server have ended")
    assert len(pids(told)) == 4
