"""Ends the workers of a server that is gone, however it went: a process of its own, which SIGKILL of the server spares.

It runs without the package around it. Each line of its stdin is `+GROUP` for a process group that began, or `-GROUP`
for one that has ended; when nothing more can come, what is left is asked to end and, after a while, made to.
"""

import os
import select
import signal
import sys

LOOKS_S = 0.5
"""How often it looks whether its parent lives: a process that was forked from the server keeps the pipe open."""

_STEP_S = 0.1


def main(grace_s: float) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups = _watch(sys.stdin.fileno(), os.getppid())
    _send(groups, signal.SIGTERM)
    for _ in range(int(grace_s / _STEP_S)):
        if not _send(groups, 0):
            return
        select.select([], [], [], _STEP_S)
    _send(groups, signal.SIGKILL)


def _watch(told: int, parent: int) -> dict[int, None]:
    """The groups that live when the server is gone."""
    groups: dict[int, None] = {}
    rest = b""
    while os.getppid() == parent:
        if not select.select([told], [], [], LOOKS_S)[0]:
            continue
        said = os.read(told, 65_536)
        if not said:
            break
        *lines, rest = (rest + said).split(b"\n")
        for line in lines:
            if line.startswith(b"+"):
                groups[int(line[1:])] = None
            else:
                groups.pop(int(line[1:]), None)
    return groups


def _send(groups: dict[int, None], number: int) -> bool:
    """Send a signal to whatever is left of each group. False: nothing is."""
    for group in tuple(groups):
        try:
            os.killpg(group, number)
        except OSError:
            del groups[group]
    return bool(groups)


if __name__ == "__main__":
    main(float(sys.argv[1]))
