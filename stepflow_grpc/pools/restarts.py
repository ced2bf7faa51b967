"""When a worker that died is started again."""

import signal

import msgspec

HEALTHY_S = 10.0
"""A worker that lived so long, and connected, is no longer one that dies as it starts."""

FIRST_S = 0.5
LONGEST_S = 30.0


class Death(msgspec.Struct, frozen=True):
    """How a worker ended, or why it never began."""

    reason: str  # such as "exit code 1"
    at: float
    lived_s: float
    said: tuple[str, ...] = ()  # its last lines
    is_start: bool = False  # it never ran

    def __str__(self) -> str:
        return (
            f"can't be started: {self.reason}" if self.is_start else f"died after {self.lived_s:.1f} s: {self.reason}"
        )


def restart_delay(in_a_row: int, draw: float) -> float:
    """How long to wait before a worker is started again, in seconds.

    Doubles with each death that follows soon on a start, up to half a minute; between half of it and all of it, so that
    workers which died together do not come back together.

    Args:
        in_a_row: how many died so; 0 starts at once.
        draw: a number in [0, 1).
    """
    if in_a_row == 0:
        return 0.0
    ceiling = min(FIRST_S * 2.0 ** min(in_a_row - 1, 30), LONGEST_S)
    return ceiling * (1 + draw) / 2


def reason_of(code: int) -> str:
    """How a process ended, in words: negative codes are signals."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
