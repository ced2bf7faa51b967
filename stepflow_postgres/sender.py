"""Statements sent past the driver's cursors, which take longer than the rest of a small commit's client.

A statement is prepared on the connection when it is first sent there; where nothing may be prepared, its text goes
along each time. Values are in PostgreSQL's binary format, and none is NULL: so a statement's types never change.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from psycopg import AsyncConnection
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from stepflow_postgres.arrays import KINDS

_PLACE = re.compile(rb"%\((\w+)\)s")
_TYPES: Mapping[type, int] = {**KINDS, bytes: 17, str: 25}
_FINE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


class Sender:
    """Sends on one connection, one statement at a time. A sending that is broken off closes the connection.

    `leave` it before the driver does anything with the connection.
    """

    def __init__(self, connection: AsyncConnection[Any], *, is_prepared: bool) -> None:
        self._pgconn = connection.pgconn
        self._socket = connection.pgconn.socket  # which can't be asked for once the connection is lost
        self._loaded = Transformer(connection)
        self._is_prepared = is_prepared
        self._names: dict[bytes, bytes] = {}
        self._ready_now: asyncio.Future[None] | None = None
        self._is_heard = False  # the loop looks at the socket; to look anew each time takes longer than all the rest

    async def send(self, sql: bytes, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Carry out a statement and give its rows. The parameters are strings, bytes and packed arrays.

        Raises:
            psycopg.Error: as the driver does.
        """
        text, names, formats = _numbered(sql)
        given: list[Any] = [parameters[name] for name in names]
        values = [value.encode() if type(value) is str else value for value in given]
        if self._is_prepared:
            name = self._names.get(sql) or await self._prepare(sql, text, given)
            self._pgconn.send_query_prepared(name, values, formats, Format.BINARY)
        else:
            self._pgconn.send_query_params(text, values, _types(given), formats, Format.BINARY)
        return self._rows(await self._answer())

    async def _prepare(self, sql: bytes, text: bytes, given: Sequence[object]) -> bytes:
        name = b"stepflow_%d" % len(self._names)
        self._pgconn.send_prepare(name, text, _types(given))
        await self._answer()
        self._names[sql] = name
        return name

    async def _answer(self) -> PGresult:
        """The one result of what was sent."""
        pgconn = self._pgconn
        while pgconn.flush():
            await self._ready(is_sending=True)
            pgconn.consume_input()  # the server may wait for somebody to read what it says
        answer = None
        while True:
            while pgconn.is_busy():
                await self._ready()
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            answer = answer or result
        assert answer is not None
        if answer.status not in _FINE:
            raise error_from_result(answer, encoding="utf-8")
        return answer

    async def _ready(self, *, is_sending: bool = False) -> None:
        """Wait until something arrived, or can be sent."""
        loop = asyncio.get_running_loop()
        self._ready_now = ready = loop.create_future()
        if not self._is_heard:
            loop.add_reader(self._socket, self._hear)
            self._is_heard = True
        if is_sending:
            loop.add_writer(self._socket, _settle, ready)
        try:
            await ready
        except BaseException:
            self.leave()
            self._pgconn.finish()
            raise
        finally:
            self._ready_now = None
            if is_sending:
                loop.remove_writer(self._socket)

    def _hear(self) -> None:
        if self._ready_now is None:
            self.leave()  # nobody asked; who sends next finds out what it was
        else:
            _settle(self._ready_now)

    def leave(self) -> None:
        """Let the driver use the connection, or close it."""
        if self._is_heard:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._is_heard = False

    def _rows(self, result: PGresult) -> list[tuple[Any, ...]]:
        if not result.ntuples:
            return []
        self._loaded.set_pgresult(result)
        return self._loaded.load_rows(0, result.ntuples, tuple)


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _types(values: Sequence[object]) -> list[int]:
    return [_TYPES[type(value)] for value in values]


@cache
def _numbered(sql: bytes) -> tuple[bytes, tuple[str, ...], Sequence[Format]]:
    """A statement with its parameters by number, as the server takes it, and their names and formats in this order."""
    names = tuple(dict.fromkeys(name.decode() for name in _PLACE.findall(sql)))
    return (
        _PLACE.sub(lambda place: b"$%d" % (names.index(place[1].decode()) + 1), sql),
        names,
        [Format.BINARY] * len(names),
    )
