"""Whose fault it is that a worker's event loop gets no turn: found out without the interpreter's lock.

While threads get their turn and only the loop does not, a thread of the worker looks at the loop's stack. While none
does, since one call into C keeps the lock, the interpreter itself writes all stacks into a file that a process beside
the worker reads too; the kernel says which thread has used the processor meanwhile.
"""

import faulthandler
import os
import re
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path

import msgspec

LOOK_S = 0.5
"""How often the loop has to have had a turn, and how often it is looked whether it had."""

HELD_LOOKS = 4
"""So many looks without a turn make a loop that is held up."""

_STACK_LOOKS = 3
_LEAST_SHARE = 0.1  # of a processor: who uses less only waits for the interpreter's lock
_LONGEST = 16_000  # characters of all stacks
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)[^\n]*\n", re.MULTILINE)


class Thread(msgspec.Struct, frozen=True, array_like=True):
    """A thread, as the interpreter and the kernel call it."""

    ident: int
    native_id: int | None
    name: str


class Watch:
    """Looks after the event loop of this process, from another thread.

    It takes the interpreter's one `faulthandler.dump_traceback_later` for itself.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.file = nameless_file()
        self._loop = threading.get_ident()
        self._seen = -1
        self._looks = 0

    def turn(self) -> None:
        """The loop has its turn."""
        self._loop = threading.get_ident()
        self.turns += 1

    def look(self) -> str | None:
        """The stack of the loop, if it has had no turn for a while. To be called every `LOOK_S`, by another thread."""
        if os.fstat(self.file).st_size:
            os.ftruncate(self.file, 0)
            os.lseek(self.file, 0, os.SEEK_SET)
        faulthandler.dump_traceback_later(_STACK_LOOKS * LOOK_S, file=self.file)
        self._looks = self._looks + 1 if self._seen == self.turns else 0
        self._seen = self.turns
        return self._stack() if self._looks >= _STACK_LOOKS else None

    def _stack(self) -> str | None:
        frame = sys._current_frames().get(self._loop)
        if frame is None:
            return None
        lines = [
            f'  File "{each.f_code.co_filename}", line {line} in {each.f_code.co_name}'
            for each, line in traceback.walk_stack(frame)
        ]
        return "\n".join(["the thread of the event loop is at:", *lines])[:_LONGEST]

    def close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        os.close(self.file)


def nameless_file() -> int:
    """A file in memory or without a name, that another process can be given."""
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    return os.memfd_create("stacks")


def threads() -> list[Thread]:
    """Those of this process."""
    found = [(thread.ident, thread.native_id, thread.name) for thread in threading.enumerate()]
    return [Thread(ident, native_id, name) for ident, native_id, name in found if ident is not None]


class HeldUp(msgspec.Struct, frozen=True):
    """A loop that has had no turn for a while."""

    seconds: float
    stack: str | None  # None: not known yet


class TurnCounter:
    """Sees from another process whether a loop gets its turns.

    It counts its own looks rather than seconds, so that time in which neither process ran counts for nothing.
    """

    def __init__(self, pid: int, file: int) -> None:
        self._pid = pid
        self._file = file
        self._seen = -1
        self._looks = 0
        self._stack: str | None = None
        self._used: Mapping[int, int] = {}

    @property
    def is_late(self) -> bool:
        """Whether the loop had no turn at the last look, for however short."""
        return self._looks > 0

    def forget(self) -> None:
        """The process was stopped: that was not its loop's fault."""
        self._looks = 0
        self._stack = None

    def look(self, turns: int, stack: str | None, known: list[Thread]) -> HeldUp | None:
        """How long the loop is held up, and by what. To be called every `LOOK_S`; None: it is not.

        Args:
            stack: the loop's, where a thread of the process could tell.
        """
        if turns != self._seen:
            self._seen = turns
            self.forget()
            return None
        self._looks += 1
        if self._looks == 1:
            self._used = _processor_use(self._pid)
        if self._looks < HELD_LOOKS:
            return None
        self._stack = stack or self._stack or self._dumped(known)
        return HeldUp(self._looks * LOOK_S, self._stack or self._excuse())

    def _dumped(self, known: list[Thread]) -> str | None:
        text = os.pread(self._file, 10 * _LONGEST, 0).decode("utf-8", "replace")
        if not text:
            return None
        use = {native_id: used - self._used.get(native_id, 0) for native_id, used in _processor_use(self._pid).items()}
        busiest = max(use, key=use.__getitem__, default=None)
        least = _LEAST_SHARE * (self._looks - 1) * LOOK_S * os.sysconf("SC_CLK_TCK")
        return arranged(text, known, busiest if busiest is not None and use[busiest] >= least else None)

    def _excuse(self) -> str | None:
        return "its stacks could not be taken" if self._looks > 2 * HELD_LOOKS else None


def arranged(text: str, known: list[Thread], busiest: int | None) -> str:
    """Stacks as the interpreter dumped them, with the threads' names: of the one that used the processor, else of all.

    Args:
        busiest: the kernel's id of that thread; one that is not known began lately.
    """
    heads = list(_THREAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    names = {thread.ident: thread for thread in known}
    holds: list[str] = []
    others: list[str] = []
    for head, end in zip(heads, ends, strict=True):
        thread = names.get(int(head[1], 16))
        frames = text[head.end() : end].rstrip()
        is_busy = busiest is not None and busiest == (_unknown(busiest, known) if thread is None else thread.native_id)
        shown = f"thread {thread.name!r}" if thread is not None else f"thread 0x{head[1]}"
        (holds if is_busy else others).append(f"{shown} is at:\n{frames}")
    return "\n".join([f"held up by {each}" for each in holds] or others)[:_LONGEST]


def _unknown(native_id: int, known: list[Thread]) -> int | None:
    """The id itself, where it is of no thread that is known."""
    return None if any(thread.native_id == native_id for thread in known) else native_id


def _processor_use(pid: int) -> dict[int, int]:
    """The time of each thread of a process, in ticks. Empty where that can't be told."""
    found = {}
    for place in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            fields = place.read_text("utf-8", "replace").rpartition(")")[2].split()
            found[int(place.parent.name)] = int(fields[11]) + int(fields[12])
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
    return found
