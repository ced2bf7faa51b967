"""The HTTP/1.1 side of the port: small answers for probes and launchers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import h11
import msgspec

from stepflow.records import Json

Answer: TypeAlias = tuple[int, Json]
Route: TypeAlias = Callable[[], Awaitable[Answer]]

_ONCE = 65_536
_LONGEST_HEAD = 16_384


class HttpSide:
    """Answers requests by their method and path.

    Args:
        routes: `GET /path` → what answers it with a status and a JSON value.
    """

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = dict(routes)

    async def serve(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, of which some bytes were read already, until it is closed."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        connection.receive_data(first)
        while True:
            try:
                request = await self._next(connection, reader)
                if request is None:
                    return
                status, body = await self._answer(request)
            except h11.RemoteProtocolError as error:
                status, body = error.error_status_hint, _problem(error.error_status_hint, str(error))
            await _send(connection, writer, status, body)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _next(self, connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
        """The next request, its body read and dropped; None: there is none."""
        request: h11.Request | None = None
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_ONCE))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.EndOfMessage):
                return request
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return None

    async def _answer(self, request: h11.Request) -> Answer:
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        found = self._routes.get(f"{request.method.decode('ascii')} {path}")
        if found is not None:
            return await found()
        if any(route.partition(" ")[2] == path for route in self._routes):
            return 405, _problem(405, f"{path} does not take this method")
        return 404, _problem(404, f"there is nothing at {path}")


def _problem(status: int, message: str) -> Json:
    return {"error": {"code": status, "message": message}}


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, status: int, body: Json) -> None:
    content = msgspec.json.encode(body)
    headers = [("content-type", "application/json"), ("content-length", str(len(content)))]
    if connection.our_state is h11.SEND_RESPONSE or connection.our_state is h11.IDLE:
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(content), h11.EndOfMessage()):
            data = connection.send(event)
            if data:
                writer.write(data)
        await writer.drain()
