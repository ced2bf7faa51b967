"""`stepflow serve` as a process of its own, whose stderr is read while it runs."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polled import BOUND_S, until

CLI = "from stepflow.cli.main import main; main()"
SERVER = "from stepflow_grpc.serving.command import server; server()"
CLEARED = (
    "STEPFLOW_STORE",
    "STEPFLOW_PORT",
    "STEPFLOW_CONFIG",
    "STEPFLOW_URL",
    "STEPFLOW_SECRET_KEY",
    "STEPFLOW_TOKEN",
)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # at opening, or at reading
        return False
    return state != "Z"


class Serving:
    """A server's process, and the port that it said. Close it."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        program: str = "serve",
        stdin: str | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        line = [CLI, "serve", *arguments] if program == "serve" else [SERVER, *arguments]
        self._err = folder / f"stderr-{len(list(folder.glob('stderr-*')))}"
        clean = {name: value for name, value in os.environ.items() if name not in CLEARED}
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", *line],
                cwd=folder,
                env={**clean, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
            )
        assert self.process.stdin is not None
        if stdin is not None:
            self.process.stdin.write(stdin)
        self.process.stdin.close()
        self.said: list[str] = []
        self.port = self._announced()

    def _announced(self) -> int:
        """The port of the line that says it; logs may come before it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith('{"port"'):
                port: int = json.loads(line)["port"]
                return port
        self.process.wait(BOUND_S)
        raise AssertionError(f"exit code {self.process.returncode}: {self.err}")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8", errors="replace")

    def until_said(self, pattern: str, *, times: int = 1, bound_s: float = BOUND_S) -> list[Any]:
        """What a pattern finds on stderr, as soon as it is there so often."""

        def found() -> list[Any] | None:
            matches = re.findall(pattern, self.err, re.MULTILINE)
            return matches if len(matches) >= times else None

        try:
            said: list[Any] = until(found, pattern, bound_s=bound_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.err}") from None
        return said

    def children(self) -> list[int]:
        """Processes that it started and that live."""
        return children_of(self.process.pid)

    def workers(self) -> list[int]:
        """Processes that it started, but for the one that looks after orphans."""
        return [pid for pid in self.children() if b"orphans" not in command_line(pid)]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        self.process.wait(BOUND_S)
        return self.process.returncode, self.err

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(BOUND_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


def children_of(pid: int) -> list[int]:
    """Processes that one started and that live."""
    return [child for child in _children(pid) if is_alive(child)]


def _children(pid: int) -> Iterator[int]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield from map(int, file.read_text().split())


def command_line(pid: int) -> bytes:
    """Empty where the process is gone, and for a moment after it began: the system fills it in last."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
