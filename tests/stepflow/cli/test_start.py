"""The first lines of the command line."""

import signal
import subprocess
import sys

import pytest

from stepflow.cli.start import is_interrupt

LOADS = """
from stepflow.cli import start

load = start.import_module


def interrupted(name):
    if name == "stepflow.cli.main":
        RAISE
    return load(name)


start.import_module = interrupted
start.main()
"""


def _said(raised: str) -> list[object]:
    program = LOADS.replace("RAISE", raised)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    return [done.returncode, done.stderr]


@pytest.mark.parametrize("raised", ["raise KeyboardInterrupt", "raise RuntimeError from KeyboardInterrupt()"])
def test_an_interrupt_while_the_command_line_is_loaded_ends_it_with_a_word(raised: str) -> None:
    assert _said(raised) == [130, "interrupted\n"]


HELD = """
import signal

from stepflow.cli import start

load = start.import_module


def interrupted(name):
    if name == "msgspec":
        signal.raise_signal(signal.SIGINT)
    loaded = load(name)
    if name == "msgspec":
        print("whole", flush=True)
    return loaded


start.import_module = interrupted
start.main()
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal can be held back here")
def test_an_interrupt_waits_for_what_would_be_broken_by_it() -> None:
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, timeout=120)

    assert [done.returncode, done.stdout, done.stderr] == [130, "whole\n", "interrupted\n"]


def test_an_interrupt_is_found_wherever_it_is_and_errors_in_a_ring_are_none() -> None:
    failed = OSError("full")
    ring = ExceptionGroup("tasks", [failed])
    failed.__context__ = ring
    told = RuntimeError("closed")
    told.__context__ = BaseExceptionGroup("tasks", [OSError("lost"), KeyboardInterrupt()])

    assert [is_interrupt(each) for each in (failed, ring, told)] == [False, False, True]


def test_an_error_while_it_is_loaded_is_no_interrupt() -> None:
    code, said = _said("raise ImportError('gone')")

    assert code == 1
    assert "gone" in str(said)


def test_nothing_is_loaded_before_an_interrupt_is_heeded() -> None:
    program = "import sys; before = {*sys.modules}; import stepflow.cli.start; print(*{*sys.modules} - before)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)

    heavy = [
        name for name in done.stdout.split() if name.partition(".")[0] not in ("stepflow", "importlib", "warnings")
    ]
    assert heavy == []


def test_it_leads_to_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stepflow.cli.start", "--version"], capture_output=True, text=True, timeout=120
    )

    assert [done.returncode, done.stdout.split()[0]] == [0, "stepflow"]
