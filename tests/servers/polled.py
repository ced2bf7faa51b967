"""What another process or thread is to bring about, looked for again and again."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

BOUND_S = 180.0
"""How long anything may take: it catches what hangs, on a cold machine that has much else to do."""


def until(
    fact: Callable[[], Any], what: str, *, process: subprocess.Popen[Any] | None = None, bound_s: float = BOUND_S
) -> Any:
    """What the function gives as soon as that is true; `process`: who has to be alive meanwhile."""
    deadline = time.monotonic() + bound_s
    while time.monotonic() < deadline:
        found = fact()
        if found:
            return found
        assert process is None or process.poll() is None, (what, process.communicate())
        time.sleep(0.01)
    raise AssertionError(f"not within {bound_s} s: {what}")
