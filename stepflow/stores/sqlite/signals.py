"""Wakes those who wait for what was written to a SQLite file, by this process or by another."""

from typing import Self

import anyio

from stepflow.protocols import ended_topic
from stepflow.records import RunId
from stepflow.stores.sqlite.file import SqliteFile

POLL_S = 0.2
"""How often whoever waits looks whether another process has written to the file."""


class SqliteListener:
    """Woken by what this process sends, and by anything that another one commits."""

    def __init__(self, signals: "SqliteSignals", topic: str) -> None:
        self._signals = signals
        self._topic = topic
        self._version = signals.seen()
        self._is_sent = False
        self._woken: anyio.Event | None = None  # only there while it waits: most wait for nothing

    def __enter__(self) -> Self:
        self._signals.add(self._topic, self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._signals.remove(self._topic, self)

    def hear(self) -> None:
        self._is_sent = True
        if self._woken is not None:
            self._woken.set()

    async def wait(self, timeout_s: float) -> None:
        while True:
            self._woken = woken = anyio.Event()
            if self._is_sent:
                woken.set()
            with self._signals.clock.timeout(min(POLL_S, timeout_s)):
                await woken.wait()
            self._woken = None
            before, self._version = self._version, self._signals.version()
            timeout_s -= POLL_S
            if self._is_sent or self._version != before or timeout_s <= 0:
                break
        self._is_sent = False


class SqliteSignals:
    """What this process commits is told at once. SQLite tells nobody of a commit: others' are looked for."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self.clock = file.clock
        self._listeners: dict[str, dict[SqliteListener, None]] = {}

    def listen(self, topic: str) -> SqliteListener:
        return SqliteListener(self, topic)

    def add(self, topic: str, listener: SqliteListener) -> None:
        self._listeners.setdefault(topic, {})[listener] = None

    def remove(self, topic: str, listener: SqliteListener) -> None:
        listeners = self._listeners[topic]
        del listeners[listener]
        if not listeners:
            del self._listeners[topic]

    def send(self, topic: str) -> None:
        for listener in self._listeners.get(topic, ()):
            listener.hear()

    def send_ended(self, run_id: RunId) -> None:
        if self._listeners:
            self.send(ended_topic(run_id))

    def version(self) -> int:
        """A number that changes whenever another process commits."""
        return self._file.version()

    def seen(self) -> int:
        """The version as somebody saw it last: what was committed since then may wake a new listener once in vain."""
        return self._file.seen or self._file.version()
