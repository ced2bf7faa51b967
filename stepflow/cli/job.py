"""What a command line asks to be run."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import msgspec

from stepflow.execution.handle import Run
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
    is_detached: bool = False  # not waited for where another engine drives the run


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that this command has begun, goes on with, or looks on at."""

    run: Run
    steps: Sequence[str]  # their ids
    again: str | None  # how to go on after an interrupt; None: nothing could
    is_named: bool = False  # its key does not depend on its inputs
    before: int = 0  # items that had ended when this command began
    is_left: bool = False  # to another engine, which has it, without waiting for its results
