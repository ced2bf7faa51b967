"""Signals of a command that runs."""

import signal
import subprocess
import sys

import pytest

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
