"""What a worker says, line by line."""

from collections import deque

LONGEST = 8_192
"""Bytes of a line that is passed on whole; longer ones are cut into several."""

KEPT = 20
"""How many of the last lines are kept, to be shown when the worker dies."""


class Lines:
    """Cuts bytes into lines as they come, and keeps the last."""

    def __init__(self) -> None:
        self._rest = b""
        self._last: deque[str] = deque(maxlen=KEPT)

    @property
    def last(self) -> tuple[str, ...]:
        return tuple(self._last)

    def feed(self, data: bytes) -> list[str]:
        """The lines that are whole now."""
        *whole, rest = (self._rest + data).split(b"\n")
        pieces = [piece for line in whole for piece in _cut(line)]
        while len(rest) >= LONGEST:
            pieces.append(rest[:LONGEST])
            rest = rest[LONGEST:]
        self._rest = rest
        return self._kept(pieces)

    def end(self) -> list[str]:
        """What is left without an end of line."""
        rest, self._rest = self._rest, b""
        return self._kept([rest] if rest else [])

    def _kept(self, pieces: list[bytes]) -> list[str]:
        lines = [piece.decode("utf-8", "replace").rstrip("\r") for piece in pieces]
        self._last.extend(line for line in lines if line.strip())
        return lines


def _cut(line: bytes) -> list[bytes]:
    return [line[at : at + LONGEST] for at in range(0, len(line), LONGEST)] or [b""]
