"""For a process that serves the one that started it: it ends with its parent, and sees whether that is stopped.

It imports next to nothing, since such processes have to begin quickly.
"""

import os
import select
import signal
import sys
import threading

if sys.platform != "linux":
    import subprocess

_LOOK_S = 0.5  # how often to look for the parent where its end can't be waited for


def leave_signals_to_parent() -> None:
    """Ignore what a terminal sends to its whole group: it is meant for the parent."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def end_with(parent: int) -> None:
    """End this process once its parent is gone.

    The end of a pipe from the parent does not say so for sure: processes that were forked from it hold that too.
    """
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    try:
        file = os.pidfd_open(parent) if sys.platform == "linux" else None
    except OSError:
        file = None
    pause = threading.Event()  # never set: it waits
    while os.getppid() == parent:
        if file is not None:
            select.select([file], [], [])
        else:
            pause.wait(_LOOK_S)
    os._exit(0)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal or a debugger. False: it is not, or that can't be told."""
    try:
        if sys.platform == "linux":
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                state = file.read().rpartition(")")[2].split()[0]
        else:
            shown = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)
            state = shown.stdout.strip()
    except (OSError, IndexError):
        return False
    return state[:1] in ("T", "t")
