"""One process in a group of its own, whose words are passed on line by line."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeAlias

from stepflow.protocols import Clock
from stepflow_grpc.pools.lines import Lines

Say: TypeAlias = Callable[[Sequence[str]], Awaitable[None]]
"""Takes lines. As long as it takes, no more are read, and who writes them waits."""

_ONCE = 65_536

LAST_WORDS_S = 1.0
"""How long the pipe of a process that has ended is read: one that it started may hold it open."""


class GroupProcess:
    """A program that was started, and everything it starts as long as that stays in its group.

    Its stdout goes where its stderr goes, for stdout is where the server speaks; its stdin is empty.
    """

    def __init__(self, process: asyncio.subprocess.Process, reading: asyncio.Task[None], lines: Lines) -> None:
        self._process = process
        self._reading = reading
        self._lines = lines

    @classmethod
    async def start(
        cls,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        directory: Path | None,
        say: Say,
    ) -> Self:
        """Raises: OSError, where the program or the directory is not there."""
        read, write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                env=dict(env),
                cwd=directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                process_group=0,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        lines = Lines()
        return cls(process, asyncio.create_task(_pass_on(read, lines, say)), lines)

    @property
    def pid(self) -> int:
        """Also the number of its group."""
        return self._process.pid

    @property
    def said(self) -> tuple[str, ...]:
        return self._lines.last

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; nothing where it is gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def ended(self, clock: Clock) -> int:
        """Wait until the program ends. What it leaves behind in its group is killed."""
        code = await self._process.wait()
        self.signal(signal.SIGKILL)
        with clock.timeout(LAST_WORDS_S):
            await asyncio.wait([self._reading])
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        return code


async def _pass_on(read: int, lines: Lines, say: Say) -> None:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(read, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        while data := await reader.read(_ONCE):
            if found := lines.feed(data):
                await say(found)  # all at once: one that writes without end costs the server little for each line
        if rest := lines.end():
            await say(rest)
    finally:
        transport.close()
