"""What a pool is: a queue, what its workers run, and how many there are."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from stepflow.errors import StepflowError

_OF_ONE = ("STEPFLOW_WORKER_ID", "STEPFLOW_READY_FILE", "STEPFLOW_HEALTH_PORT")
"""Variables that no two workers may have alike."""


class PoolError(StepflowError):
    """The pool can't be had as it is described."""


class Pool(msgspec.Struct, frozen=True):
    """Workers of one queue, which the server starts, restarts when they die, and stops when it stops.

    Args:
        queue: the queue that they pull from. It exists from the server's start.
        app: the components they serve, as `module:registry`; they are workers of ours.
        command: what to run instead of `app`: a program and its arguments. It finds the server and its queue by the
            variables STEPFLOW_TASKS_URL, STEPFLOW_QUEUE_NAME and STEPFLOW_BLOB_URL.
        replicas: how many of them run.
        max_concurrent: tasks that each of them does at the same time; auto: workers of ours find out how many. None:
            the worker's own default.
        env: further variables, which win over those above and over the server's.
        directory: where they start, and where modules are found from. None: the current directory.

    Raises:
        PoolError: neither `app` nor `command` is given, or both; or a number is below 1.
    """

    queue: str
    app: str | None = None
    command: Sequence[str] = ()
    replicas: int = 1
    max_concurrent: int | Literal["auto"] | None = None
    env: Mapping[str, str] = {}
    directory: Path | None = None

    def __post_init__(self) -> None:
        if not self.queue.strip():
            raise PoolError("a pool needs the name of its queue")
        if (self.app is None) == (not self.command):
            raise PoolError(f"pool {self.queue!r} needs either an app or a command")
        for name, number in (("replicas", self.replicas), ("max_concurrent", self.max_concurrent)):
            if isinstance(number, int) and number < 1:
                raise PoolError(f"pool {self.queue!r}: {name} has to be at least 1, not {number}")

    @property
    def shown(self) -> str:
        """What its workers run, in few words and without values that may be secret."""
        return self.app if self.app is not None else shlex.join(self.command[:1])

    def arguments(self) -> list[str]:
        """The command line of one worker."""
        if self.app is None:
            return list(self.command)
        line = [sys.executable, "-m", "stepflow.cli.main", "worker", self.app, "--queue", self.queue]
        if self.max_concurrent is not None:
            line += ["--max-concurrent", str(self.max_concurrent)]
        return line

    def variables(self, tasks_url: str) -> dict[str, str]:
        """What a worker's environment has beside the server's."""
        found = {
            "STEPFLOW_TRANSPORT": "grpc",
            "STEPFLOW_TASKS_URL": tasks_url,
            "STEPFLOW_QUEUE_NAME": self.queue,
            "STEPFLOW_BLOB_URL": tasks_url,
            "PYTHONUNBUFFERED": "1",  # what components print shows at once
        }
        if self.max_concurrent is not None:
            found["STEPFLOW_MAX_CONCURRENT"] = str(self.max_concurrent)
        return found | dict(self.env)

    def environment(self, tasks_url: str, inherited: Mapping[str, str], worker_id: str) -> dict[str, str]:
        """The whole environment of a worker."""
        kept = {name: value for name, value in inherited.items() if name not in _OF_ONE}
        return kept | {"STEPFLOW_WORKER_ID": worker_id} | self.variables(tasks_url)


_TEXT = re.compile(r"(?P<queue>[^=]+)=(?P<app>[\w.]+:[A-Za-z_][\w.]*)(?::(?P<replicas>[0-9]+))?")


def read_pool(text: str, directory: Path | None = None) -> Pool:
    """A pool from `QUEUE=module:registry` or `QUEUE=module:registry:REPLICAS`.

    Raises:
        PoolError: it is written in another way.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise PoolError(f"{text!r} is no pool; write QUEUE=MODULE:REGISTRY[:REPLICAS], such as cpu=components:app:2")
    return Pool(found["queue"], found["app"], replicas=int(found["replicas"] or 1), directory=directory)
