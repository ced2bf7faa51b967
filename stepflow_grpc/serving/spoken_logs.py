"""Logs that go to stderr, said by a `Speaker`: a server must not stand still because nobody reads them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from stepflow.cli.logs import CurrentStderr
from stepflow_grpc.pools.speaker import Speaker


class SpokenLogs(logging.Handler):
    """Says what the handler in whose place it stands would write."""

    def __init__(self, instead_of: logging.Handler, speaker: Speaker) -> None:
        super().__init__(instead_of.level)
        self.setFormatter(instead_of.formatter)
        self._speaker = speaker

    def emit(self, record: logging.LogRecord) -> None:
        self._speaker.post(self.format(record))


@contextmanager
def spoken_logs(speaker: Speaker) -> Iterator[None]:
    """While inside, what would be logged to stderr is said."""
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [SpokenLogs(each, speaker) if isinstance(each, CurrentStderr) else each for each in before]
    try:
        yield
    finally:
        root.handlers[:] = before
