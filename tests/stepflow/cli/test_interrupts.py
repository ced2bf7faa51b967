"""Signals of a command that runs."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from polled import until

PROGRAM = """\
import anyio

from stepflow.cli.interrupts import heed_interrupts


async def heed():
    print("heeded", flush=True)


async def main():
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heed_interrupts, heed)
        await anyio.wait_all_tasks_blocked()
        print("ready", flush=True)
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()


anyio.run(main)
"""
CLOSING = """\
import signal

import anyio

from stepflow.cli.interrupts import heed_interrupts


async def main():
    async with anyio.create_task_group() as tasks:

        async def heed():
            tasks.cancel_scope.cancel()

        tasks.start_soon(heed_interrupts, heed)
        await anyio.wait_all_tasks_blocked()
        signal.raise_signal(signal.HOW)
        await anyio.sleep_forever()


anyio.run(main)
signal.raise_signal(signal.HOW)
"""
FLOW = """\
steps: [{id: s, component: /slow, input: {}}]
output: {$step: s}
test: {cases: [{name: one, input: {}, output: {outcome: success, result: 1}}]}
"""
SLOW = """\
import time
from pathlib import Path

import stepflow

app = stepflow.Components()


@app.component("/slow")
def slow(input):
    Path("begun").touch()
    time.sleep(120)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_heeded_and_the_second_ends_the_process(how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline()]
        process.send_signal(how)
        said.append(process.stdout.readline())
        process.send_signal(how)
        process.wait(timeout=60)

    assert said == ["ready\n", "heeded\n"]
    assert process.returncode == 130


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_the_second_signal_ends_the_process_without_a_word_though_it_comes_after_the_run(how: str) -> None:
    program = CLOSING.replace("HOW", how)

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)

    assert [done.returncode, done.stderr] == [130, ""]


def test_a_command_whose_component_holds_a_thread_ends_with_the_interrupt(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "slow.py").write_text(SLOW)
    line = [sys.executable, "-m", "stepflow.cli.start", "test", "flow.yaml", "--app", "slow:app"]
    with subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        until((tmp_path / "begun").exists, "the component has begun", process=process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)

    assert [process.returncode, said.strip()] == [130, "interrupted"]
