"""One port for gRPC and for HTTP/1.1: the first bytes of a connection tell which it speaks."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from stepflow.protocols import Clock
from stepflow_grpc.doors.http import HttpSide
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.http2.answering import Calls
from stepflow_grpc.http2.connection import Connection
from stepflow_grpc.http2.framing import PREFACE
from stepflow_grpc.http2.methods import Find
from stepflow_grpc.http2.silence import CLOSING_S, Patience

logger = logging.getLogger("stepflow.server")

_BACKLOG = 1_024
_LAST_WORDS_S = 0.5
_TRIES = 5
"""How often a free port is looked for that a name's other addresses have free too."""


class Front:
    """Listens where callers are told to go.

    Args:
        http: what answers HTTP/1.1; None: it is not spoken here.
        find: the methods of gRPC; None: it is not spoken here.
        tls: gives the certificate that counts now, for each connection anew; None speaks in clear.
    """

    def __init__(
        self,
        clock: Clock,
        limits: Limits,
        *,
        http: HttpSide | None = None,
        find: Find | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.http = http
        self.find = find
        self.tls = tls
        self.clock = clock
        self.limits = limits
        self.calls = Calls(limits.calls)
        self._servers: list[asyncio.Server] = []
        self._guests: dict[Guest, None] = {}
        self._is_full = False

    async def open(self, host: str, port: int) -> int:
        """Listen, and say on which port. Raises: OSError, where that can't be."""
        for tries_left in reversed(range(_TRIES)):
            try:
                return await self._listen(host, port)
            except OSError:
                self.stop()
                if port or not tries_left:
                    raise
        raise AssertionError("the last try raises")

    async def _listen(self, host: str, port: int) -> int:
        """On every address that the name stands for, at the same port. Raises: OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for address in dict.fromkeys(str(entry[4][0]) for entry in found):
            server = await loop.create_server(lambda: Guest(self), address, port, backlog=_BACKLOG)
            self._servers.append(server)
            port = server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._guests)

    def enter(self, guest: "Guest") -> bool:
        """Whether there is room for one more."""
        is_full = len(self._guests) >= self.limits.connections
        if is_full and not self._is_full:
            logger.warning("%d connections are open, which is the limit: more are closed", self.limits.connections)
        self._is_full = is_full
        if not is_full:
            self._guests[guest] = None
        return not is_full

    def leave(self, guest: "Guest") -> None:
        self._guests.pop(guest, None)

    def stop(self) -> None:
        """Take no more connections; those that are there go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def close(self, grace_s: float = 0.0) -> None:
        """Close every connection, once its calls are answered or the time is over."""
        self.stop()
        for guest in list(self._guests):
            guest.leave()
        await self._gone([guest for guest in self._guests if guest.speaks_grpc], grace_s)
        await self._gone([guest for guest in self._guests if not guest.speaks_grpc], _LAST_WORDS_S)
        for guest in list(self._guests):
            guest.give_up()
        await self._gone(list(self._guests), _LAST_WORDS_S)
        for guest in list(self._guests):
            guest.abort()
        await asyncio.gather(*(guest.attending for guest in list(self._guests)), return_exceptions=True)

    async def _gone(self, guests: Sequence["Guest"], within_s: float) -> None:
        if guests and within_s:
            await asyncio.wait([guest.attending for guest in guests], timeout=within_s)


class Guest(asyncio.Protocol):
    """A connection, from when it is taken until it is closed. It hands over to what it turns out to speak."""

    attending: asyncio.Task[None]

    def __init__(self, front: Front) -> None:
        self._front = front
        self._transport: Any = None
        self._first = b""
        self._has_spoken = asyncio.Event()
        self._grpc: Connection | None = None

    def connection_made(self, transport: Any) -> None:
        if not self._front.enter(self):
            transport.abort()
            return
        self._transport = transport
        if self._front.tls is not None:
            transport.pause_reading()  # until TLS is there to read it
        self.attending = asyncio.get_running_loop().create_task(self._attend())

    def data_received(self, data: bytes) -> None:
        self._first += data
        if len(self._first) >= len(PREFACE) or not PREFACE.startswith(self._first):
            self._has_spoken.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._has_spoken.set()
        self._transport = None

    @property
    def speaks_grpc(self) -> bool:
        return self._grpc is not None

    def leave(self) -> None:
        """Close the connection once what is under way is done."""
        if self._grpc is not None:
            self._grpc.leave()

    def give_up(self) -> None:
        """Close it now."""
        if self._grpc is not None:
            self._grpc.give_up()
        else:
            self.attending.cancel()

    def abort(self) -> None:
        if self._grpc is not None:
            self._grpc.abort()
        self.attending.cancel()

    async def _attend(self) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve()
        finally:
            self._front.leave(self)
            if self._grpc is None and self._transport is not None and not self._transport.is_closing():
                self._transport.abort()

    async def _serve(self) -> None:
        front = self._front
        if front.tls is not None:
            await self._secure(front.tls())
        with front.clock.timeout(front.limits.greeting_s):
            await self._has_spoken.wait()
        if self._transport is None or not self._has_spoken.is_set():
            return
        if self._first.startswith(PREFACE) and front.find is not None:
            await self._speak_grpc(front.find)
        elif front.http is not None:
            await self._speak_http(front.http)

    async def _secure(self, context: ssl.SSLContext) -> None:
        """Raises: OSError, where the other side does not want it so."""
        wait_s = self._front.limits.greeting_s
        self._transport = await asyncio.get_running_loop().start_tls(
            self._transport, self, context, server_side=True, ssl_handshake_timeout=wait_s
        )

    async def _speak_grpc(self, find: Find) -> None:
        limits = self._front.limits
        patience = Patience(limits.greeting_s, limits.keepalive_s, limits.keepalive_answer_s, limits.idle_s)
        self._grpc = connection = Connection(
            find,
            self._front.clock,
            patience,
            self._front.calls,
            longest_message=limits.message_bytes,
            most_streams=limits.streams,
        )
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        connection.data_received(self._first)
        self._first = b""
        try:
            await connection.watch()
        finally:
            connection.abort()
            await connection.wait_closed()

    async def _speak_http(self, http: HttpSide) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        writer = asyncio.StreamWriter(self._transport, protocol, reader, loop)
        try:
            await http.serve(self._first, reader, writer)
        finally:
            await self._part(writer)

    async def _part(self, writer: asyncio.StreamWriter) -> None:
        """Close a connection, whether or not the other side listens still."""
        writer.close()
        within_s = min(CLOSING_S, self._front.limits.greeting_s)
        with contextlib.suppress(OSError), self._front.clock.timeout(within_s, shield=True):
            await writer.wait_closed()
            return
        writer.transport.abort()
