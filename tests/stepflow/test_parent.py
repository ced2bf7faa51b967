"""A process that serves its parent."""

import os
import signal
import subprocess
import sys

from stepflow.parent import is_stopped


def test_a_process_is_stopped_until_it_goes_on():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        running = is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        stopped = is_stopped(process.pid)
        process.send_signal(signal.SIGCONT)
        os.waitpid(process.pid, os.WCONTINUED)

        assert [running, stopped, is_stopped(process.pid)] == [False, True, False]
        process.kill()


def test_what_can_not_be_looked_at_counts_as_running():
    assert not is_stopped(2**22 + 1)
