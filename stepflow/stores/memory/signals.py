"""Wakes who waits in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from stepflow.protocols import Clock, ended_topic
from stepflow.records import RunId


class MemoryListener:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent = anyio.Event()

    def hear(self) -> None:
        self._sent.set()

    async def wait(self, timeout_s: float) -> None:
        with self._clock.timeout(timeout_s):
            await self._sent.wait()
        self._sent = anyio.Event()


class MemorySignals:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._listeners: dict[str, dict[MemoryListener, None]] = {}

    @contextmanager
    def listen(self, topic: str) -> Iterator[MemoryListener]:
        listener = MemoryListener(self._clock)
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
