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
