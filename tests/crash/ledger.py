"""What components did, told by themselves: a file that many processes append to and that outlives all of them."""

import os
import time
from pathlib import Path
from typing import TypeAlias

import msgspec


class Began(msgspec.Struct, frozen=True, array_like=True, tag="began"):
    """A component was called."""

    engine: str  # the process, as whoever started it calls it
    run: str
    item: int
    step: str
    attempt: int
    pid: int
    at: float


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """It is about to return, or to raise what the flow retries."""

    engine: str
    run: str
    item: int
    step: str
    attempt: int
    pid: int
    at: float
    failed: bool = False


class Asked(msgspec.Struct, frozen=True, array_like=True, tag="asked"):
    """A job is about to be submitted."""

    engine: str
    job: int
    at: float


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag="accepted"):
    """The submission returned: from here on the job may not be lost."""

    engine: str
    job: int
    run: str
    at: float


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """Somebody has read every result of the job."""

    engine: str
    job: int
    right: bool
    at: float


Line: TypeAlias = Began | Ended | Asked | Accepted | Done

_decoder = msgspec.json.Decoder(Line)


class Ledger:
    """Appends lines, each with one write."""

    def __init__(self, path: Path, engine: str) -> None:
        self.engine = engine
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    def write(self, line: Line) -> None:
        os.write(self._file, b"\n" + msgspec.json.encode(line))

    def began(self, run: str, item: int, step: str, attempt: int) -> None:
        self.write(Began(self.engine, run, item, step, attempt, os.getpid(), time.time()))

    def ended(self, run: str, item: int, step: str, attempt: int, *, failed: bool = False) -> None:
        self.write(Ended(self.engine, run, item, step, attempt, os.getpid(), time.time(), failed))

    def close(self) -> None:
        os.close(self._file)


def read_ledger(path: Path) -> list[Line]:
    """The lines in the order they were written. One that a kill cut short was not written."""
    lines: list[Line] = []
    for text in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            lines.append(_decoder.decode(text))
        except msgspec.DecodeError:
            continue
    return lines
