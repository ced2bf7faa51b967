"""A pooler in transaction mode: hands each transaction of its clients to any one of a few sessions of a server.

It resets nothing between transactions, so what a client leaves on a session is another's the next time. Only what the
tests need: no TLS, no cancelling, a server that trusts whoever comes through its socket.
"""

import asyncio
import gc
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from anyio.from_thread import start_blocking_portal
from psycopg.conninfo import conninfo_to_dict

_NEGOTIATIONS = {80_877_103: b"N", 80_877_104: b"N"}  # TLS and GSS: no
_CANCEL = 80_877_102
_READY, _BYE = b"Z", b"X"
_ENDS_TURN = (b"Q", b"S")  # a query or a Sync: the server says once that it is ready
_READY_OUTSIDE_A_TRANSACTION = b"Z\0\0\0\x05I"
_SOCKET = ".s.PGSQL.5432"


class Session:
    """A connection to the server, which serves one client at a time or none."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self.greeting = b""  # what the server said of itself when it began
        self.client: Client | None = None
        self.unanswered = 0


class Client:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.session: Session | None = None


class PoolingProxy:
    """Takes clients on a socket in `folder`. `transactions` counts those that each session has served."""

    def __init__(self, folder: Path, host: str, port: int, *, sessions: int) -> None:
        self._is_closed = False
        self.transactions = [0] * sessions
        self._folder = folder
        self._host = host
        self._port = port
        self._sessions: dict[int, Session] = {}
        self._free: asyncio.Queue[int] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._listening: asyncio.Server | None = None

    async def open(self) -> None:
        for number in range(len(self.transactions)):
            self._free.put_nowait(number)
        self._listening = await asyncio.start_unix_server(self._serve, self._folder / _SOCKET)
        (self._folder / _SOCKET).chmod(0o777)

    async def close(self) -> None:
        assert self._listening is not None
        self._is_closed = True
        self._listening.close()
        for _ in range(3):  # somebody may just be coming in
            for _ in range(5):
                await asyncio.sleep(0)
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for writer in self._writers:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._note(asyncio.current_task())
        self._writers.append(writer)
        if self._is_closed:
            writer.close()
            return
        client = Client(writer)
        try:
            startup = await _startup(reader, writer)
            if startup is not None:
                session = await self._take(client, startup)
                writer.write(session.greeting + _READY_OUTSIDE_A_TRANSACTION)
                self._give_back(session)
                await self._hand_on(reader, client, startup)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            if client.session is not None:  # in a transaction, which nobody else may get
                client.session.writer.close()
            writer.close()

    async def _hand_on(self, reader: asyncio.StreamReader, client: Client, startup: bytes) -> None:
        while True:
            kind, message = await _message(reader)
            if kind == _BYE:
                return
            if client.session is None:
                session = await self._take(client, startup)
                self.transactions[session.number] += 1
            assert client.session is not None
            client.session.unanswered += kind in _ENDS_TURN
            client.session.writer.write(message)

    async def _take(self, client: Client, startup: bytes) -> Session:
        """The session that was free for longest."""
        number = await self._free.get()
        try:
            session = self._sessions.get(number) or await self._begin(number, startup)
        except BaseException:
            self._free.put_nowait(number)
            raise
        session.client = client
        client.session = session
        return session

    def _give_back(self, session: Session) -> None:
        if session.client is not None:
            session.client.session = None
        session.client = None
        self._free.put_nowait(session.number)

    async def _begin(self, number: int, startup: bytes) -> Session:
        reader, writer = await self._connect()
        self._writers.append(writer)
        session = Session(reader, writer, number)
        writer.write(startup)
        while True:
            kind, message = await _message(reader)
            if kind == b"E":
                raise ConnectionError(message)
            if kind == _READY:
                break
            session.greeting += message
        self._sessions[number] = session
        self._note(asyncio.create_task(self._answer(session)))
        return session

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        return await asyncio.open_connection(self._host, self._port)

    async def _answer(self, session: Session) -> None:
        """Hand on what the server says, to whoever has the session; what it says to nobody is dropped."""
        try:
            while True:
                kind, message = await _message(session.reader)
                if session.client is not None:
                    session.client.writer.write(message)
                if kind == _READY:
                    session.unanswered -= 1
                    if not session.unanswered and message.endswith(b"I"):
                        self._give_back(session)
        except (OSError, EOFError):
            if session.client is not None:
                session.client.writer.close()
        finally:
            session.writer.close()
            del self._sessions[session.number]
            if session.client is not None:
                self._give_back(session)
            session.client = None

    def _note(self, task: "asyncio.Task[None] | None") -> None:
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """The client's first message; None: it wants to cancel something."""
    while True:
        size = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(size, "big") - 4)
        code = int.from_bytes(body[:4], "big")
        if code not in _NEGOTIATIONS:
            return None if code == _CANCEL else size + body
        writer.write(_NEGOTIATIONS[code])


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


@contextmanager
def pooled(url: str, *, sessions: int = 2) -> Iterator[tuple[str, PoolingProxy]]:
    """A pooler in front of the server of a URL: the URL that leads through it, and the pooler."""
    found = conninfo_to_dict(url.partition("&schema=")[0])
    parts = urlsplit(url)
    pairs = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("host", "port")]
    user = parts.netloc.rpartition("@")[0]
    with tempfile.TemporaryDirectory(prefix="stepflow-pool-") as folder, start_blocking_portal() as portal:
        Path(folder).chmod(0o755)
        proxy = PoolingProxy(Path(folder), str(found["host"]), int(found.get("port") or 5432), sessions=sessions)
        portal.call(proxy.open)
        try:
            yield parts._replace(netloc=f"{user}@", query=urlencode([("host", folder), *pairs])).geturl(), proxy
        finally:
            portal.call(proxy.close)
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # sockets of clients that were killed while they came in
