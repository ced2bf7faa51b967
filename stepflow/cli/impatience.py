"""What an interrupt does to a command that has been told to end already, or has nothing more to do than to exit."""

import os
import signal
import threading

INTERRUPTED = 130


def end_when_interrupted() -> None:
    """From now on Ctrl-C and SIGTERM end the process at once: raised in what is being closed they would break it."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(INTERRUPTED))


def is_interrupt(error: BaseException) -> bool:
    """Whether it came of Ctrl-C: what is raised in a module that is being imported may arrive as another error."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__cause__ or found.__context__
    return found is not None
