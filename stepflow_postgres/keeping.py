"""Keeps the process that beats for an engine running: see `stepflow_postgres.heartbeat`."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec

from stepflow.clock import SystemClock
from stepflow.protocols import Clock
from stepflow_postgres.heartbeat import FENCED, Order

_LOG = logging.getLogger(__name__)
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0


@asynccontextmanager
async def kept_alive(conninfo: str, statement: str, owner: str, clock: Clock | None = None) -> AsyncIterator[None]:
    """While inside, a process beats for the owner; when it dies another takes its place."""
    order = Order(conninfo=conninfo, statement=statement, owner=owner)
    line = msgspec.json.encode(order) + b"\n"
    keeping = asyncio.create_task(_keep(line, owner, clock or SystemClock()), name=f"heartbeat of {owner}")
    try:
        yield
    finally:
        keeping.cancel()
        with anyio.CancelScope(shield=True):  # it kills its process at once
            await asyncio.wait([keeping])


async def _keep(line: bytes, owner: str, clock: Clock) -> None:
    delay_s = _FIRST_DELAY_S
    while True:
        try:
            code: int | str = await _run(line)
        except OSError as error:
            code = str(error)
        if code == FENCED:
            _LOG.debug("engine %s was fenced: nothing beats for it any more", owner)
            return
        _LOG.warning("the heartbeat process of engine %s ended (%s); another is started", owner, code)
        await clock.sleep(delay_s)
        delay_s = min(2 * delay_s, _LONGEST_DELAY_S)


async def _run(line: bytes) -> int:
    """Start the process and wait for its end. Returns: its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable or "python3",
        "-P",  # modules of the current directory are not for it
        "-m",
        "stepflow_postgres.heartbeat",
        str(os.getpid()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=None if _LOG.isEnabledFor(logging.DEBUG) else asyncio.subprocess.DEVNULL,
        env=_environment(),
    )
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    """What this process can import, that one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
