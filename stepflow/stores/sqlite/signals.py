"""Wakes those who wait for what was written to a SQLite file, by this process or by another."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from stepflow.protocols import ended_topic
from stepflow.records import RunId
from stepflow.stores.sqlite.file import SqliteFile

POLL_S = 0.2
"""How often whoever waits looks whether another process has written to the file."""


class SqliteListener:
    """Woken by what this process sends, and by anything that another one commits."""

    def __init__(self, signals: "SqliteSignals", version: int) -> None:
        self._signals = signals
        self._version = version
        self._sent = anyio.Event()

    def hear(self) -> None:
        self._sent.set()

    async def wait(self, timeout_s: float) -> None:
        while True:
            with self._signals.clock.timeout(min(POLL_S, timeout_s)):
                await self._sent.wait()
            before, self._version = self._version, self._signals.version()
            timeout_s -= POLL_S
            if self._sent.is_set() or self._version != before or timeout_s <= 0:
                break
        self._sent = anyio.Event()


class SqliteSignals:
    """What this process commits is told at once. SQLite tells nobody of a commit: others' are looked for."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self.clock = file.clock
        self._listeners: dict[str, dict[SqliteListener, None]] = {}
        self._seen = 0  # the newest version that anybody looked at: what came since wakes a new listener once in vain

    @contextmanager
    def listen(self, topic: str) -> Iterator[SqliteListener]:
        listener = SqliteListener(self, self._seen or self.version())
        listeners = self._listeners.setdefault(topic, {})
        listeners[listener] = None
        try:
            yield listener
        finally:
            del listeners[listener]
            if not listeners:
                self._listeners.pop(topic, None)

    def send(self, topic: str) -> None:
        for listener in self._listeners.get(topic, ()):
            listener.hear()

    def send_ended(self, run_id: RunId) -> None:
        if self._listeners:
            self.send(ended_topic(run_id))

    def version(self) -> int:
        """A number that changes whenever another process commits."""
        self._seen = self._file.version()
        return self._seen
