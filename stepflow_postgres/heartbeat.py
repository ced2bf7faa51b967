"""A process that says for an engine that it lives, also where the engine's own threads get no turn to run.

`python -m stepflow_postgres.heartbeat PID` is started by `stepflow_postgres.keeping`. What to say where comes as one
line of JSON through a pipe. The process ends as soon as that pipe is closed or its parent is gone, whatever it waits
for, and says nothing while the parent is stopped. It imports as little as it can.
"""

import json
import os
import sys
import threading
from typing import NoReturn, TypedDict

import psycopg

from stepflow.parent import end_with, is_stopped, leave_signals_to_parent

FENCED = 3
"""The exit code that says: the engine's row is gone, so there is nothing left to beat for."""

_FIRST_PERIOD_S = 1.0  # until the first answer tells the time to live
_FIRST_DELAY_S = 0.1  # before the second try; doubled until it is a period


class Order(TypedDict):
    """What the parent hands over."""

    conninfo: str
    statement: str  # says that `owner` lives, and gives its time to live in seconds; no row: it was fenced
    owner: str


class SilentError(Exception):
    """The database gave no answer; another connection may."""


def main() -> NoReturn:
    leave_signals_to_parent()
    parent = int(sys.argv[1])
    end_with(parent)
    line = sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_pipe, daemon=True).start()
    sys.exit(beat(parent, json.loads(line)) if line else 0)


def _end_with_pipe() -> None:
    while os.read(sys.stdin.fileno(), 1_024):
        pass
    os._exit(0)


def beat(parent: int, order: Order) -> int:
    """Say that the engine lives every third of its time to live. Returns: the exit code, once it was fenced."""
    pause = threading.Event()  # never set: it waits
    connection: psycopg.Connection | None = None
    period_s, delay_s = _FIRST_PERIOD_S, _FIRST_DELAY_S
    while True:
        if is_stopped(parent):
            pause.wait(period_s)
            continue
        try:
            connection = connection or _connect(order)
            ttl_s = _ask(connection, order)
        except SilentError:
            connection = None
            pause.wait(delay_s)
            delay_s = min(2 * delay_s, period_s)
            continue
        if ttl_s is None:
            return FENCED
        period_s, delay_s = ttl_s / 3, _FIRST_DELAY_S
        pause.wait(period_s)


def _connect(order: Order) -> psycopg.Connection:
    """Not by libpq alone, which would hold the interpreter's lock while it waits."""
    try:
        return psycopg.Connection.connect(order["conninfo"], autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise SilentError from error


def _ask(connection: psycopg.Connection, order: Order) -> float | None:
    """Returns: the engine's time to live in seconds; None: it was fenced."""
    try:
        row = connection.execute(order["statement"].encode(), {"owner": order["owner"]}).fetchone()
    except psycopg.Error as error:
        connection.close()
        raise SilentError from error
    return None if row is None else float(row[0])


if __name__ == "__main__":
    main()
