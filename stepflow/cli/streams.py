"""stdout carries results and nothing else; whatever other code prints goes to stderr."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO, TextIO


@contextlib.contextmanager
def results_stream() -> Iterator[BinaryIO]:
    """The real stdout for results. Meanwhile `print` in components, here or in their processes, writes to stderr."""
    binary = sys.stdout.buffer
    sys.stdout.flush()
    with contextlib.ExitStack() as held:
        if _is_descriptor(sys.stdout, 1) and _is_descriptor(sys.stderr, 2):
            binary = held.enter_context(_moved_stdout())
        held.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield binary
        binary.flush()


@contextlib.contextmanager
def _moved_stdout() -> Iterator[BinaryIO]:
    kept = os.dup(1)
    os.dup2(2, 1)
    own = open(kept, "wb", closefd=False)  # noqa: SIM115  # closed below, after stdout is put back
    try:
        yield own
    finally:
        os.dup2(kept, 1)
        with contextlib.suppress(OSError):
            own.close()
        os.close(kept)


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (AttributeError, OSError, ValueError):  # a test's stream may be anything
        return False


def silence_stdout() -> None:
    """Nobody reads any more: let what is still buffered go nowhere, so that the interpreter ends quietly."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
