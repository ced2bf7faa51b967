"""Which tasks a worker began lately, where a process beside it can read them while the worker gets no turn to say so.

A server gives a task that nobody says to have begun to another worker. One that lets no thread of its worker have a
turn, from its beginning on, would so be done twice.
"""

import mmap
import os
from collections.abc import Sequence

from stepflow.records import TaskId
from stepflow_grpc.frames import Begun
from stepflow_grpc.worker.stalls import nameless_file

SIZE = 64 * 1024
"""Bytes that are remembered: some 1,500 tasks."""


class Beginnings:
    """A ring of lines in memory that is shared with another process."""

    def __init__(self) -> None:
        self.file = nameless_file()
        os.truncate(self.file, SIZE)
        self._memory = mmap.mmap(self.file, SIZE)
        self._place = 0

    def note_each(self, begun: Sequence[tuple[TaskId, int]]) -> None:
        """Tasks that begin at once, and which attempts: in one piece, where there is room up to the end."""
        text = "".join([f"{task_id} {attempt}\n" for task_id, attempt in begun]).encode()
        if self._place + len(text) > SIZE:
            for task_id, attempt in begun:
                self._note(f"{task_id} {attempt}\n".encode())
            return
        self._note(text)

    def _note(self, line: bytes) -> None:
        end = self._place + len(line)
        if end > SIZE:
            if len(line) > SIZE:
                return
            self._place, end = 0, len(line)
        self._memory[self._place : end] = line
        self._place = end

    def close(self) -> None:
        self._memory.close()
        os.close(self.file)


def read_beginnings(file: int) -> Sequence[Begun]:
    """What is in the ring. Some of it has been answered, and a line at the seam may be torn: of a task that none is."""
    found = []
    for line in os.pread(file, SIZE, 0).strip(b"\0").decode("utf-8", "replace").splitlines():
        task_id, _, attempt = line.rpartition(" ")
        if task_id and attempt.isascii() and attempt.isdigit():
            found.append(Begun(task_id, int(attempt)))
    return found
