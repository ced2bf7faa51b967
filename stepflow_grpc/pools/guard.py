"""What sees to it that no worker outlives its server, even one that is killed with SIGKILL."""

import asyncio
import logging
import sys
from pathlib import Path

from stepflow_grpc.pools import orphans

logger = logging.getLogger("stepflow.pools")


class Guard:
    """Tells a process of its own which groups live; see `orphans`.

    Args:
        grace_s: how long workers may take to end once their server is gone.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._groups: dict[int, None] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        # -I -S: it starts in milliseconds, and nothing that stands in the current directory gets into it
        program = [sys.executable, "-I", "-S", str(Path(orphans.__file__)), str(self._grace_s)]
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(
            *program, stdin=pipe, stdout=nothing, stderr=nothing, start_new_session=True
        )
        for group in self._groups:
            self._tell(f"+{group}")

    async def began(self, group: int) -> None:
        self._groups[group] = None
        if self._process is not None and self._process.returncode is not None:
            logger.warning("the process that ends orphaned workers has died, and is started again")
            await self.start()
            return
        self._tell(f"+{group}")

    def ended(self, group: int) -> None:
        self._groups.pop(group, None)
        self._tell(f"-{group}")

    async def stop(self) -> None:
        """Let it go; it ends whatever lives yet."""
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        await process.wait()

    def _tell(self, line: str) -> None:
        process = self._process
        if process is not None and process.stdin is not None and process.returncode is None:
            process.stdin.write(f"{line}\n".encode())
