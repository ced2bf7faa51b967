"""LISTEN and NOTIFY: wakes those who wait for what another engine does. Everything works without it, only later."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from types import TracebackType

import msgspec
import psycopg
from psycopg import AsyncConnection, Notify, sql

from stepflow.clock import SystemClock
from stepflow.protocols import Clock
from stepflow_postgres.arrays import texts
from stepflow_postgres.connection import own_connection
from stepflow_postgres.sender import Sender

_LOG = logging.getLogger(__name__)

SELF_TEST = "self-test"
_PATIENCE_S = 5.0  # of the self-test
_PAYLOAD_BYTES = 7_900  # PostgreSQL takes less than 8000
_LONGEST_TOPIC = 500  # longer ones are sent as their digest
_MOST_WAITING = 10_000  # topics that are kept while the database is away
_GATHER_S = 0.001  # before topics are sent: who waits here goes on first, and what comes together goes together
_BETWEEN_S = 0.01  # after topics were sent: so often is enough where there are new ones all the time
_CLOSING_S = 0.5  # how long closing waits until the last ones are sent
_CANCELLED_AGAIN_S = 0.5  # older drivers lose what cancels them at the moment when something is heard, on Python 3.11
_NOTIFY = b"""
SELECT pg_notify(%(channel)s, payload)
FROM set_config('synchronous_commit', 'off', true), unnest(%(payloads)s) AS payload
"""  # what a crash takes with it is looked for anyway
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0


class PostgresListener:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent = asyncio.Event()

    def hear(self) -> None:
        self._sent.set()

    async def wait(self, timeout_s: float) -> None:
        with self._clock.timeout(timeout_s):
            await self._sent.wait()
        self._sent.clear()


class PostgresSignals:
    """Topics of all kinds share one channel.

    It has a connection to send and one to listen, each opened when it is first needed and again whenever it is lost.

    Args:
        conninfo: where NOTIFY is sent; may lead through a pooler.
        listen: where LISTEN is said: past any pooler. None: nobody listens here.
        channel: the same for all engines of a store, at most 63 bytes.
    """

    def __init__(self, conninfo: str, *, listen: str | None, channel: str, clock: Clock | None = None) -> None:
        self._conninfo = conninfo
        self._listen = listen
        self._channel = channel
        self._clock = clock or SystemClock()
        self._listeners: dict[str, dict[PostgresListener, None]] = {}
        self._waiting: dict[str, None] = {}  # topics to be sent
        self._has_waiting = asyncio.Event()
        self._is_sent = asyncio.Event()
        self._is_sent.set()
        self._id = secrets.token_hex(8)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_wanted = asyncio.Event()
        self._is_heard = False

    @property
    def is_heard(self) -> bool:
        """Whether what other engines send arrives here at the moment."""
        return self._is_heard

    async def __aenter__(self) -> "PostgresSignals":
        self._tasks = [asyncio.create_task(self._send_all(), name="notify")]
        if self._listen is not None:
            self._tasks.append(asyncio.create_task(self._hear_all(self._listen), name="listen"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_sent.is_set():
            with self._clock.timeout(_CLOSING_S, shield=True):
                await self._is_sent.wait()
        while left := [task for task in self._tasks if not task.done()]:
            for task in left:
                task.cancel()
            with self._clock.timeout(_CANCELLED_AGAIN_S, shield=True):
                await asyncio.wait(left)

    @contextmanager
    def listen(self, topic: str) -> Iterator[PostgresListener]:
        key = _short(topic)
        listener = PostgresListener(self._clock)
        listeners = self._listeners.setdefault(key, {})
        listeners[listener] = None
        self._is_wanted.set()
        try:
            yield listener
        finally:
            del listeners[listener]
            if not listeners:
                self._listeners.pop(key, None)

    def send(self, topics: Iterable[str]) -> None:
        """Wake who listens, here and elsewhere. It never waits and never fails; call it after the commit."""
        for topic in topics:
            self.wake(topic)
            self._waiting[_short(topic)] = None
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.clear()
        self._is_sent.clear()
        self._has_waiting.set()

    def wake(self, *topics: str) -> None:
        """Wake who listens here."""
        for topic in topics:
            self._wake(_short(topic))

    def _wake(self, key: str) -> None:
        for listener in self._listeners.get(key, ()):
            listener.hear()

    async def _send_all(self) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            await self._has_waiting.wait()
            try:
                async with _sender(self._conninfo) as sender:
                    while True:
                        await self._has_waiting.wait()
                        await self._clock.sleep(_GATHER_S)
                        await self._send_waiting(sender)
                        delay_s = _FIRST_DELAY_S
                        await self._clock.sleep(_BETWEEN_S)
            except (psycopg.Error, OSError) as error:
                _LOG.debug("signals can't be sent at the moment: %s", error)
            await self._clock.sleep(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _send_waiting(self, sender: Sender) -> None:
        """One statement for all that came together while the one before was on its way."""
        topics, self._waiting = self._waiting, {}
        self._has_waiting.clear()
        try:
            await self._notify(sender, topics)
        except (psycopg.Error, OSError):
            self._waiting = {**topics, **self._waiting}
            self._has_waiting.set()
            raise
        if not self._waiting:
            self._is_sent.set()

    async def _notify(self, sender: Sender, keys: Iterable[str]) -> None:
        await sender.send(_NOTIFY, {"channel": self._channel, "payloads": texts([*_packed(self._id, keys)])})

    async def _hear_all(self, conninfo: str) -> None:
        delay_s = _FIRST_DELAY_S
        await self._is_wanted.wait()
        while True:
            try:
                async with own_connection(conninfo) as connection:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
                    if not await self._works(connection):
                        await connection.execute("UNLISTEN *")
                        return
                    delay_s = _FIRST_DELAY_S
                    await self._hear(connection)
            except (psycopg.Error, OSError) as error:
                _LOG.debug("signals can't be heard at the moment: %s", error)
            self._is_heard = False
            await self._clock.sleep(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _works(self, listening: AsyncConnection) -> bool:
        """Whether what is sent on another connection arrives on this one. Behind a transaction pooler it does not."""
        async with _sender(self._conninfo) as sender:
            await self._notify(sender, [SELF_TEST])
        async with aclosing(listening.notifies(timeout=_PATIENCE_S)) as notices:
            async for notice in notices:
                if self._take(notice):
                    return True
        _LOG.info("what others notify is not heard here: runs are looked at from time to time instead (see ?listen=)")
        return False

    async def _hear(self, connection: AsyncConnection) -> None:
        self._is_heard = True
        for key in list(self._listeners):  # what was sent before is lost
            self._wake(key)
        async with aclosing(connection.notifies()) as notices:
            async for notice in notices:
                self._take(notice)

    def _take(self, notice: Notify) -> bool:
        """Wake who listens to the topics. Returns: whether this very object has sent them."""
        try:
            sender, *keys = msgspec.json.decode(notice.payload, type=list[str])
        except (msgspec.DecodeError, ValueError):
            return False  # somebody else's words on our channel
        if sender == self._id:
            return True
        for key in keys:
            self._wake(key)
        return False


@asynccontextmanager
async def _sender(conninfo: str) -> AsyncIterator[Sender]:
    async with own_connection(conninfo) as connection:
        sender = Sender(connection, is_prepared=False)
        try:
            yield sender
        finally:
            sender.leave()


def _short(topic: str) -> str:
    if len(topic) <= _LONGEST_TOPIC:
        return topic
    return hashlib.sha256(topic.encode("utf-8", "surrogatepass")).hexdigest()


def _packed(sender: str, keys: Iterable[str]) -> Iterator[str]:
    """Payloads that PostgreSQL takes: JSON arrays of the sender and topics."""
    part = [sender]
    size = len(sender) + 4
    for key in keys:
        needed = len(msgspec.json.encode(key)) + 1
        if size + needed > _PAYLOAD_BYTES:
            yield msgspec.json.encode(part).decode()
            part = [sender]
            size = len(sender) + 4
        part.append(key)
        size += needed
    yield msgspec.json.encode(part).decode()
