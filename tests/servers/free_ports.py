"""Ports for servers that have to be known before they listen."""

import os
import socket
from itertools import count

_FIRST = 20_000
_OF_EACH = 1_000
_WORKERS = 12

_turns = count(os.getpid())


def free_port() -> int:
    """A port on which nobody listens.

    It lies below those that the system gives to whoever wants any port, and each of pytest's processes has its own: so
    it stays free until the test takes it, and while a server is away.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = _FIRST + worker % _WORKERS * _OF_EACH
    for _ in range(_OF_EACH):
        port = first + next(_turns) % _OF_EACH
        with socket.socket() as found:
            try:
                found.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port from {first} on is free")
