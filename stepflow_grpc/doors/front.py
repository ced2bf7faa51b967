"""One port for gRPC and for HTTP/1.1: the first bytes of a connection tell which it speaks."""

import asyncio
import contextlib
import logging
import ssl

from stepflow.protocols import Clock
from stepflow_grpc.doors.http import HttpSide
from stepflow_grpc.doors.limits import Limits

logger = logging.getLogger("stepflow.server")

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""How every HTTP/2 connection begins (RFC 9113, section 3.4)."""

_ONCE = 65_536
_BACKLOG = 1_024
_CLOSING_S = 5.0
"""How long a connection that is closed may take to read what was said to it, at most."""

_LAST_WORDS_S = 0.5


class Front:
    """Listens where callers are told to go, and hands gRPC on to a server behind it.

    Args:
        behind: where that is; None: gRPC is not spoken here.
    """

    def __init__(
        self, behind: tuple[str, int] | None, http: HttpSide, clock: Clock, limits: Limits | None = None
    ) -> None:
        self._behind = behind
        self._http = http
        self._clock = clock
        self._limits = limits or Limits()
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], None] = {}
        self._is_full = False
        self.peers: dict[str, str] = {}
        """Who calls, by the address that the server behind sees."""

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, and say on which port. Raises: OSError, where that can't be."""
        wait_s = None if tls is None else self._limits.greeting_s
        self._server = await asyncio.start_server(
            self._connected, host, port, ssl=tls, ssl_handshake_timeout=wait_s, backlog=_BACKLOG
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def stop(self) -> None:
        """Take no more connections; those that are there go on."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Close every connection; what the server behind has said already still goes out."""
        self.stop()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=_LAST_WORDS_S)
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._has_room():
            writer.transport.abort()
            return
        task = asyncio.create_task(self._attend(reader, writer))
        self._connections[task] = None
        task.add_done_callback(self._connections.pop)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            await self._part(writer)

    def _has_room(self) -> bool:
        is_full = len(self._connections) >= self._limits.connections
        if is_full and not self._is_full:
            logger.warning("%d connections are open, which is the limit: more are closed", self._limits.connections)
        self._is_full = is_full
        return not is_full

    async def _part(self, writer: asyncio.StreamWriter) -> None:
        """Close a connection, whether or not the other side listens still."""
        writer.close()
        within_s = min(_CLOSING_S, self._limits.greeting_s)
        with contextlib.suppress(OSError), self._clock.timeout(within_s, shield=True):
            await writer.wait_closed()
            return
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = b""
        is_told = False
        with self._clock.timeout(self._limits.greeting_s):
            while len(first) < len(_PREFACE) and _PREFACE.startswith(first):
                more = await reader.read(len(_PREFACE) - len(first))
                if not more:
                    return
                first += more
            is_told = True
        if not is_told:
            return
        if first != _PREFACE:
            await self._http.serve(first, reader, writer)
        elif self._behind is not None:
            await self._hand_on(first, self._behind, reader, writer)

    async def _hand_on(
        self, first: bytes, behind: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*behind)
        seen = _address(inner_writer.get_extra_info("sockname"))
        self.peers[seen] = _address(writer.get_extra_info("peername"))
        try:
            inner_writer.write(first)
            async with asyncio.TaskGroup() as pumps:
                inward = pumps.create_task(self._pump(reader, inner_writer))
                await self._pump(inner_reader, writer)
                inward.cancel()  # the server has said its last
        except* OSError:
            logger.debug("a connection broke", exc_info=True)
        finally:
            del self.peers[seen]
            inner_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes one way until their end, and pass the end on.

        Raises: OSError, where the connection broke, or nothing is read from it any more.
        """
        while data := await reader.read(_ONCE):
            writer.write(data)
            if writer.transport.get_write_buffer_size():
                await self._drain(writer)
        if writer.can_write_eof():
            writer.write_eof()

    async def _drain(self, writer: asyncio.StreamWriter) -> None:
        within_s = self._limits.keepalive_s + self._limits.keepalive_answer_s
        with self._clock.timeout(within_s):
            await writer.drain()
            return
        raise TimeoutError(f"nothing was read for {within_s:g} s")


def _address(name: object) -> str:
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
