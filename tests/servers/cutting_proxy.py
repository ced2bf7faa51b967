"""A proxy on loopback whose connections can be cut, or held so that neither side hears of it."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Carries bytes to a port. Use it with `async with`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._held: set[asyncio.Task[None]] = set()
        self.port = 0
        self.passed = 0
        """How many connections were made through it."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        await self._end()

    async def cut(self) -> None:
        """Break every connection that there is; new ones pass."""
        await self._end()

    def hold(self) -> None:
        """Carry nothing more on the connections that there are, either way, and close none; new ones pass."""
        self._held |= set(self._connections)

    async def _end(self) -> None:
        tasks = list(self._connections)
        for task in tasks:
            for writer in self._connections[task]:
                writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed += 1
        task = asyncio.create_task(self._carry(reader, writer))
        self._connections[task] = [writer]
        task.add_done_callback(lambda done: self._connections.pop(done) and None)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._connections[task].append(inner_writer)
            try:
                await asyncio.gather(self._pump(task, reader, inner_writer), self._pump(task, inner_reader, writer))
            finally:
                inner_writer.transport.abort()
                writer.transport.abort()

    async def _pump(self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if task in self._held:
                await asyncio.Event().wait()
            writer.write(data)
            await writer.drain()
        if task in self._held:
            await asyncio.Event().wait()
        writer.write_eof()
