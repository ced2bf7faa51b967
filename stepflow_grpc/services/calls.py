"""From a service's implementation to what answers calls, and from exceptions to status codes."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from stepflow_grpc.doors.guard import Service
from stepflow_grpc.http2.call import Call
from stepflow_grpc.http2.methods import Rpc, TooLong
from stepflow_grpc.messages import PACKAGE, Method, methods
from stepflow_grpc.refusals import CallError, Code, ended, invalid
from stepflow_grpc.services.beside import CALL

SMALL = 64 * 1024
"""Bytes of a request that is not counted among the larger ones."""


_OF_WORKERS = frozenset({"BeatService", "OrchestratorService", "TasksService", "WorkService"})
"""What workers say is always let in: it is what brings the load down."""


class Gate:
    """Lets larger requests in, as long as all that are being answered stay below a size."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.held_bytes = 0

    def enter(self, size: int) -> None:
        """Raises: CallError, where it would be too much. One request alone is never too much."""
        if self.held_bytes and self.held_bytes + size > self._most_bytes:
            text = f"{self.held_bytes / 1024**2:.0f} MiB of requests are being answered: try again in a second"
            raise CallError(Code.RESOURCE_EXHAUSTED, text, retry_after_s=1.0)
        self.held_bytes += size

    def leave(self, size: int) -> None:
        self.held_bytes -= size


def service_of(service: str, implementation: object, package: str = PACKAGE, *, gate: Gate | None = None) -> Service:
    """The methods of a service, each answered by the implementation's method of the same name.

    A unary one is a coroutine of the request, a streaming one an async generator; where the request is a stream too,
    it is given as an async iterator. Its `on_too_long`, if it has one, is told the method of a request that was refused
    for its length, with how that ended, and from where it came.
    """
    gate = None if service in _OF_WORKERS else gate
    found = {
        name: _rpc(method, getattr(implementation, name), gate)._replace(on_too_long=_told(implementation, name))
        for name, method in methods(service, package).items()
        if hasattr(implementation, name)
    }
    return Service(f"{package}.{service}", found)


def _told(implementation: object, name: str) -> Callable[[TooLong, str], None] | None:
    tell = getattr(implementation, "on_too_long", None)
    return None if tell is None else partial(tell, name)


def _rpc(method: Method, answer: Callable[..., Any], gate: Gate | None) -> Rpc:
    if method.takes_stream:
        return Rpc(_streaming(answer, method), takes_stream=True, streams=True)
    if method.streams:
        return Rpc(_streaming(answer, method), streams=True)
    return Rpc(_unary(answer, method, gate))


def _unary(
    answer: Callable[[Any], Awaitable[Any]], method: Method, gate: Gate | None
) -> Callable[[bytes, Call], Awaitable[bytes]]:
    async def call(data: bytes, context: Call) -> bytes:
        size = 0
        CALL.set(context)
        try:
            if gate is not None and len(data) > SMALL:
                gate.enter(len(data))
                size = len(data)
            response = await answer(_parsed(method, data))
            found: bytes = response.SerializeToString()
            return found
        except Exception as error:  # noqa: BLE001  # every failure becomes a status
            raise ended(error) from None
        finally:
            if gate is not None and size:
                gate.leave(size)

    return call


def _streaming(
    answer: Callable[[Any], AsyncGenerator[Any, None]], method: Method
) -> Callable[[Any, Call], AsyncGenerator[bytes, None]]:
    async def call(request: Any, context: Call) -> AsyncGenerator[bytes, None]:
        CALL.set(context)
        try:
            asked = _all_parsed(method, request) if method.takes_stream else _parsed(method, request)
            async with aclosing(answer(asked)) as messages:
                async for message in messages:
                    yield message.SerializeToString()
        except Exception as error:  # noqa: BLE001  # every failure becomes a status
            raise ended(error) from None

    return call


async def _all_parsed(method: Method, requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for data in requests:
        yield _parsed(method, data)


def _parsed(method: Method, data: bytes) -> Any:
    try:
        return method.request.FromString(data)
    except DecodeError:
        raise invalid(f"the bytes are no {method.request.DESCRIPTOR.full_name}") from None
