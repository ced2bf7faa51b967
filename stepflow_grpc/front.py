"""One port for gRPC and for HTTP/1.1: the first bytes of a connection tell which it speaks."""

import asyncio
import contextlib
import logging

from stepflow_grpc.http import HttpSide

logger = logging.getLogger("stepflow.server")

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""How every HTTP/2 connection begins (RFC 9113, section 3.4)."""

_ONCE = 65_536
_GREETING_S = 10.0
"""How long a connection may take to say what it speaks."""


class Front:
    """Listens where callers are told to go, and hands gRPC on to a server behind it."""

    def __init__(self, behind: tuple[str, int], http: HttpSide) -> None:
        self._behind = behind
        self._http = http
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], None] = {}
        self.peers: dict[str, str] = {}
        """Who calls, by the address that the server behind sees."""

    async def open(self, host: str, port: int) -> int:
        """Listen, and say on which port. Raises: OSError, where that can't be."""
        self._server = await asyncio.start_server(self._connected, host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def stop(self) -> None:
        """Take no more connections; those that are there go on."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        self.stop()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = None
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await self._serve(reader, writer)
        finally:
            del self._connections[task]
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = b""
        async with asyncio.timeout(_GREETING_S):
            while len(first) < len(_PREFACE) and _PREFACE.startswith(first):
                more = await reader.read(len(_PREFACE) - len(first))
                if not more:
                    return
                first += more
        if first == _PREFACE:
            await self._hand_on(first, reader, writer)
        else:
            await self._http.serve(first, reader, writer)

    async def _hand_on(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*self._behind)
        seen = _address(inner_writer.get_extra_info("sockname"))
        self.peers[seen] = _address(writer.get_extra_info("peername"))
        try:
            inner_writer.write(first)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, inner_writer))
                pumps.create_task(_pump(inner_reader, writer))
        except* OSError:
            logger.debug("a connection broke", exc_info=True)
        finally:
            del self.peers[seen]
            inner_writer.close()


def _address(name: object) -> str:
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until their end, and pass the end on."""
    while data := await reader.read(_ONCE):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
