"""What a command line asks to be run."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec

from stepflow.flow.model import Flow
from stepflow.records import Json


class Job(msgspec.Struct, kw_only=True):
    """What is to be run, read and ready."""

    flow: Flow
    inputs: Iterable[Json] | AsyncIterator[Json]
    is_batch: bool
    options: dict[str, Any]  # of `Engine.submit`
    count: Callable[[], int | None] = lambda: 1  # how many inputs there are, where that can be told
    digest: Callable[[], str | None] = lambda: None  # the same for the same inputs; None for those of stdin
    key: str | None = None  # the one that was given
    is_new: bool = False
    shows_progress: bool = False
