"""What goes through the pipes between a worker and a process that calls functions: JSON objects, one a line.

No pickles: the process runs code that nobody has read.
"""

from typing import TypeAlias

import msgspec

from stepflow.records import BlobId, Json, RunId

LONGEST_LINE = 64 * 1024 * 1024
"""Bytes."""


class UdfLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of a function, and the process that makes it, may use. The process is ended that uses more.

    They protect a worker against mistakes. They are no sandbox: a function may read whatever the worker's user may,
    open connections, and see that user's processes.
    """

    wall_s: float = 300.0
    cpu_s: int = 60
    memory_bytes: int = 2 * 1024**3  # of address space
    file_bytes: int = 256 * 1024**2  # of one file
    open_files: int = 128
    calls: int = 1_000  # before a process is replaced
    processes: int | None = None  # at a time; None: one for each processor


class Settings(msgspec.Struct, frozen=True):
    """The first line to a process."""

    limits: UdfLimits


class Facts(msgspec.Struct, frozen=True):
    """What a function may know of the step that it is called for."""

    run_id: RunId
    flow_id: BlobId
    step_id: str
    attempt: int


class Code(msgspec.Struct, frozen=True):
    """What a blob of a function holds."""

    code: str
    input_schema: Json


class Order(msgspec.Struct, frozen=True, tag="call"):
    """Call the function of a blob."""

    blob_id: BlobId
    input: Json
    facts: Facts
    code: Code | None = None  # None: the process was given it before


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """To the last question."""

    value: Json = None
    error: str | None = None


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The process can be called."""


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """The function asks something of its context."""

    name: str
    arguments: dict[str, Json]


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    output: Json


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The function failed, or could not be called."""

    message: str
    data: Json = None


ToProcess: TypeAlias = Order | Reply
FromProcess: TypeAlias = Ready | Ask | Answer | Refused
