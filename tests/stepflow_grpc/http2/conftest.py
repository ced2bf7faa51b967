"""A few methods behind a port, without anything of stepflow's."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from stepflow.clock import SystemClock
from stepflow_grpc.doors.front import Front
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.http2.call import Call
from stepflow_grpc.http2.headers import Head
from stepflow_grpc.http2.methods import Ended, Rpc


class Echo:
    """Answers in several ways, and keeps what became of its calls."""

    def __init__(self) -> None:
        self.begun = 0
        self.made = 0
        self.cut: list[str] = []
        self.read: list[bytes] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.rpcs = {
            "/e/Echo": Rpc(self.echo),
            "/e/Wait": Rpc(self.wait),
            "/e/Fail": Rpc(self.fail),
            "/e/Break": Rpc(self.broken),
            "/e/Meta": Rpc(self.meta),
            "/e/Count": Rpc(self.count, streams=True),
            "/e/Both": Rpc(self.both, takes_stream=True, streams=True),
            "/e/Chat": Rpc(self.chat, takes_stream=True, streams=True),
        }

    def find(self, head: Head) -> Rpc | None:
        return self.rpcs.get(head.path)

    async def echo(self, request: bytes, call: Call) -> bytes:
        self.begun += 1
        return request

    async def wait(self, request: bytes, call: Call) -> bytes:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cut.append(request.decode())
            raise
        return b""

    async def fail(self, request: bytes, call: Call) -> bytes:
        raise Ended(9, "not – now", [("x-why", "because"), ("x-bin", b"\0\xff")])

    async def broken(self, request: bytes, call: Call) -> bytes:
        raise RuntimeError("secret-word")

    async def meta(self, request: bytes, call: Call) -> bytes:
        return repr([pair for pair in call.invocation_metadata() if pair[0].startswith("x-")]).encode()

    async def count(self, request: bytes, call: Call) -> AsyncIterator[bytes]:
        try:
            for number in range(int(request)):
                self.made += 1
                yield str(number).encode() * 1_000
        except (asyncio.CancelledError, GeneratorExit):  # the latter, where it waits for its reader
            self.cut.append("count")
            raise

    async def chat(self, requests: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        async for request in requests:
            self.read.append(request)
            yield request.upper()
            await self.may_read.wait()
        yield b"bye"

    async def both(self, requests: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        """Reads while it speaks."""

        async def read() -> None:
            self.read.extend([request async for request in requests])

        reading = asyncio.ensure_future(read())
        yield b"x" * 30_000_000
        await reading


Open = Callable[..., AbstractAsyncContextManager[tuple[Front, int]]]


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
def open_front(echo: Echo) -> Open:
    @asynccontextmanager
    async def opened(**limits: Any) -> AsyncIterator[tuple[Front, int]]:
        front = Front(SystemClock(), Limits(**limits), find=echo.find)
        port = await front.open("127.0.0.1", 0)
        try:
            yield front, port
        finally:
            await front.close()

    return opened


@pytest.fixture
async def port(open_front: Open) -> AsyncIterator[int]:
    async with open_front() as (_, bound):
        yield bound
