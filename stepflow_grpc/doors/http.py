"""The HTTP/1.1 side: small answers for probes and launchers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import h11
import msgspec

from stepflow.protocols import Clock
from stepflow.records import Json
from stepflow_grpc.doors.guard import Tokens, refusal
from stepflow_grpc.doors.limits import Limits

Answer: TypeAlias = tuple[int, Json]

_ONCE = 65_536
_LONGEST_HEAD = 16_384
_BETWEEN_S = 60.0
"""How long a connection is kept for its next request, at most."""


class Request(msgspec.Struct, frozen=True):
    """One request, whole."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


Route: TypeAlias = Callable[[Request], Awaitable[Answer]]


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpSide:
    """Answers requests by their method and path.

    Args:
        routes: `GET /path` → what answers it with a status and a JSON value.
        tokens: of which one has to be shown, but for the paths in `open`; None lets everybody in.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        clock: Clock,
        *,
        limits: Limits | None = None,
        tokens: Tokens | None = None,
        open: frozenset[str] = frozenset(),
    ) -> None:
        self._routes = dict(routes)
        self._clock = clock
        self._limits = limits or Limits()
        self._tokens = tokens
        self._open = open

    async def serve(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, of which some bytes were read already, until it is closed."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        between_s = min(_BETWEEN_S, self._limits.idle_s)
        if first:
            connection.receive_data(first)
        elif not await self._wait(connection, reader, between_s):
            return
        while await self._exchange(connection, reader, writer):
            connection.start_next_cycle()
            if connection.trailing_data[0]:
                continue
            if not await self._wait(connection, reader, between_s):
                return

    async def _wait(self, connection: h11.Connection, reader: asyncio.StreamReader, within_s: float) -> bool:
        """Whether the first bytes of another request came."""
        with self._clock.timeout(within_s):
            data = await reader.read(_ONCE)
            connection.receive_data(data)
            return bool(data)
        return False

    async def _exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request and its answer. False: the connection is at its end."""
        try:
            request = await self._whole(connection, reader, writer)
            if request is None:
                return False
            status, body = await self._answer(request)
        except h11.RemoteProtocolError as error:
            status, body = error.error_status_hint, _problem(error.error_status_hint, str(error))
        except _RefusedError as error:
            status, body = error.status, _problem(error.status, str(error))
        with self._clock.timeout(self._limits.greeting_s):
            await _send(connection, writer, status, body)
            return connection.our_state is h11.DONE and connection.their_state is h11.DONE
        return False

    async def _whole(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Request | None:
        with self._clock.timeout(self._limits.greeting_s):
            return await self._next(connection, reader, writer)
        raise _RefusedError(408, f"the request was not whole within {self._limits.greeting_s:g} s")

    async def _next(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Request | None:
        """None: there is no further one. Raises: _RefusedError, h11.RemoteProtocolError."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if head is not None and connection.they_are_waiting_for_100_continue:
                    writer.write(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                connection.receive_data(await reader.read(_ONCE))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.http_body_bytes:
                    raise _RefusedError(413, f"a body may have {self._limits.http_body_bytes} bytes")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body))
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return None

    async def _answer(self, request: Request) -> Answer:
        path = request.path
        if self._tokens is not None and path not in self._open:
            refused = refusal(request.headers.get("authorization"), self._tokens)
            if refused is not None:
                raise _RefusedError(401, str(refused))
        found = self._routes.get(f"{request.method} {path}")
        if found is not None:
            return await found(request)
        if any(route.partition(" ")[2] == path for route in self._routes):
            raise _RefusedError(405, f"{path} does not take this method")
        raise _RefusedError(404, f"there is nothing at {path}")


def _request(head: h11.Request, body: bytes) -> Request:
    path, _, query = head.target.decode("ascii", "replace").partition("?")
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode("ascii"), path, query, headers, body)


def _problem(status: int, message: str) -> Json:
    return {"error": {"code": status, "message": message}}


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, status: int, body: Json) -> None:
    content = msgspec.json.encode(body)
    headers = [("content-type", "application/json"), ("content-length", str(len(content)))]
    if status == 401:
        headers.append(("www-authenticate", "Bearer"))
    if connection.our_state is h11.SEND_RESPONSE or connection.our_state is h11.IDLE:
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(content), h11.EndOfMessage()):
            data = connection.send(event)
            if data:
                writer.write(data)
        await writer.drain()
