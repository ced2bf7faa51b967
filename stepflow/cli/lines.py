"""Inputs as JSON Lines, read as they are wanted: the file is never held whole."""

import hashlib
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
import msgspec

from stepflow.cli.values import STDIN, data_of
from stepflow.errors import InputInvalidError, Problem
from stepflow.flow.document import read_text
from stepflow.records import Json

_BLOCK = 1 << 20
MAX_LINE = 256 * 1024 * 1024


class InputFile:
    """A file of inputs, or stdin under the name `-`.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, name: str) -> None:
        self.name = "stdin" if name == STDIN else name
        self._file: BinaryIO = sys.stdin.buffer if name == STDIN else Path(name).open("rb")  # noqa: SIM115  # open as long as the run reads

    def __enter__(self) -> "InputFile":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not sys.stdin.buffer:
            self._file.close()

    @property
    def is_regular(self) -> bool:
        """Whether reading it never waits for anybody."""
        try:
            return stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        except (OSError, ValueError):
            return False

    def count(self) -> int | None:
        """How many inputs are to come; None where only reading them would tell."""
        if not self.is_regular:
            return None
        start, lines, last = self._file.tell(), 0, b"\n"
        while block := self._file.read(_BLOCK):
            lines += block.count(b"\n")
            last = block[-1:]
        self._file.seek(start)
        return lines + (last != b"\n")

    def digest(self) -> str | None:
        """The SHA-256 of the file's bytes; None for stdin and for what can be read only once."""
        if self._file is sys.stdin.buffer or not self.is_regular:
            return None
        start = self._file.tell()
        found = hashlib.sha256()
        while block := self._file.read(_BLOCK):
            found.update(block)
        self._file.seek(start)
        return found.hexdigest()

    def values(self) -> Iterator[Json] | AsyncIterator[Json]:
        """Every input in turn. What may have to be waited for (a pipe, a terminal) is read in a thread."""
        return self._values() if self.is_regular else self._awaited_values()

    def _values(self) -> Iterator[Json]:
        for number, line in enumerate(self._file, 1):
            yield line_value(line, self.name, number)

    async def _awaited_values(self) -> AsyncIterator[Json]:
        number, begun = 0, bytearray()
        read = getattr(self._file, "read1", self._file.read)
        while block := await anyio.to_thread.run_sync(read, _BLOCK, abandon_on_cancel=True):
            first, *others = block.split(b"\n")
            begun += first
            if len(begun) > MAX_LINE:
                raise InputInvalidError(
                    [Problem(message=f"a line may have {MAX_LINE:,} bytes", source=self.name, line=number + 1)]
                )
            if not others:
                continue
            *lines, rest = others
            for number, line in enumerate([bytes(begun), *lines], number + 1):  # noqa: B020  # goes on counting
                yield line_value(line, self.name, number)
            begun = bytearray(rest)
        if begun:
            yield line_value(bytes(begun), self.name, number + 1)


def line_value(line: bytes, name: str, number: int) -> Json:
    """The value of one line.

    Raises:
        InputInvalidError: the line is blank or not JSON; the problem names it.
    """
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    found = data_of(line)
    return _slowly(line, name, number) if found is None else found[0]


def _slowly(line: bytes, name: str, number: int) -> Json:
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputInvalidError([Problem(message=f"not UTF-8: {error.reason}", source=name, line=number)]) from None
    if not text.strip():
        remedy = "write one JSON value a line, null for no input"
        raise InputInvalidError(
            [Problem(message="a blank line is not an input", source=name, line=number, remedy=remedy)]
        )
    try:
        return read_text(text, name, "json", error=InputInvalidError).value
    except InputInvalidError as error:
        moved = [msgspec.structs.replace(problem, line=number) for problem in error.problems]
        raise InputInvalidError(moved) from None
