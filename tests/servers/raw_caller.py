"""A client of HTTP/2 that says whatever bytes it is told, and takes apart what it hears."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from hpack import Decoder, Encoder

from stepflow_grpc.http2.framing import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    settings,
)

PATIENCE_S = 60.0


class Heard(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class RawCaller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.encoder = Encoder()
        self._decoder = Decoder()

    def say(self, *parts: bytes) -> None:
        self._writer.write(b"".join(parts))

    def greet(self, values: dict[int, int] | None = None) -> None:
        self.say(PREFACE, settings(values or {}))

    def call(self, stream: int, path: str, *, flags: int = END_HEADERS, **more: str) -> None:
        self.say(frame(HEADERS, flags, stream, self.block(path, **more)))

    def block(self, path: str, **more: str) -> bytes:
        """The headers of a call; `_method="GET"` stands for `:method`, and `a_b` for `a-b`."""
        pairs = {":method": "POST", ":scheme": "http", ":path": path, "content-type": "application/grpc"}
        pairs |= {(":" + name[1:] if name[0] == "_" else name.replace("_", "-")): value for name, value in more.items()}
        return self.encoder.encode(list(pairs.items()))

    def message(self, stream: int, content: bytes, *, flags: int = END_STREAM) -> None:
        self.say(frame(DATA, flags, stream, b"\0" + len(content).to_bytes(4) + content))

    async def hear(self) -> Heard:
        """The next frame. Raises: asyncio.IncompleteReadError, where the connection is closed."""
        async with asyncio.timeout(PATIENCE_S):
            high, low, kind, flags, stream = HEAD.unpack(await self._reader.readexactly(9))
            return Heard(kind, flags, stream, await self._reader.readexactly(high << 8 | low))

    async def hears(self, *kinds: int) -> Heard:
        """The next frame of these kinds; others are passed over."""
        while True:
            heard = await self.hear()
            if heard.kind in kinds and not (heard.kind == SETTINGS and kinds != (SETTINGS,)):
                return heard

    async def headers(self) -> dict[str, str]:
        return self.read((await self.hears(HEADERS)).payload)

    def read(self, block: bytes) -> dict[str, str]:
        return {str(name): str(value) for name, value in self._decoder.decode(block)}

    async def answer(self) -> tuple[bytes, dict[str, str]]:
        """The messages of one response, as they came, and what it ended with."""
        body = b""
        while True:
            heard = await self.hears(HEADERS, DATA, RST_STREAM, GOAWAY)
            if heard.kind == RST_STREAM and heard.payload == b"\0\0\0\0":
                continue  # of an answer that came before its request was whole
            assert heard.kind in (HEADERS, DATA), heard
            found = self.read(heard.payload) if heard.kind == HEADERS else {}
            body += heard.payload if heard.kind == DATA else b""
            if heard.flags & END_STREAM:
                return body, found

    async def last_word(self) -> tuple[int, int]:
        """The error, and the last stream, of the GOAWAY before the connection was closed."""
        heard = await self.hears(GOAWAY)
        return int.from_bytes(heard.payload[4:8]), int.from_bytes(heard.payload[:4])

    async def is_closed(self) -> bool:
        """Whether the other side closes the connection."""
        try:
            while True:
                await self.hear()
        except (asyncio.IncompleteReadError, ConnectionError):
            return True


@asynccontextmanager
async def raw_caller(port: int) -> AsyncIterator[RawCaller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawCaller(reader, writer)
    finally:
        writer.transport.abort()


async def until(holds: Callable[[], object]) -> None:
    """Return once this is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.005)
