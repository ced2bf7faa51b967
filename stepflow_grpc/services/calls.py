"""From a service's methods to gRPC handlers, and from exceptions to status codes."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from stepflow_grpc.messages import PACKAGE, Method, methods
from stepflow_grpc.refusals import CallError, Code, abort, invalid
from stepflow_grpc.services.beside import CALL

logger = logging.getLogger("stepflow.server")

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


def handlers(
    service: str, implementation: object, package: str = PACKAGE, *, gate: Gate | None = None
) -> grpc.ServiceRpcHandler:
    """The methods of a service, each answered by the implementation's method of the same name.

    A unary one is a coroutine of the request, a streaming one an async generator; where the request is a stream too,
    it is given as an async iterator.
    """
    gate = None if service in _OF_WORKERS else gate
    found = {
        name: _handler(method, getattr(implementation, name), gate)
        for name, method in methods(service, package).items()
        if hasattr(implementation, name)
    }
    made: grpc.ServiceRpcHandler = grpc.method_handlers_generic_handler(f"{package}.{service}", found)  # type: ignore[assignment]
    return made


def _handler(method: Method, answer: Callable[..., Any], gate: Gate | None) -> "grpc.RpcMethodHandler[Any, Any]":
    serialize = method.response.SerializeToString
    if method.takes_stream:
        parse = method.request.FromString
        make = grpc.stream_stream_rpc_method_handler
        return make(_streaming(answer), request_deserializer=parse, response_serializer=serialize)
    if method.streams:
        return grpc.unary_stream_rpc_method_handler(_streaming(answer, method), response_serializer=serialize)
    return grpc.unary_unary_rpc_method_handler(_unary(answer, method, gate), response_serializer=serialize)


def _unary(
    answer: Callable[[Any], Awaitable[Any]], method: Method, gate: Gate | None
) -> Callable[[bytes, Any], Awaitable[Any]]:
    async def call(data: bytes, context: Any) -> Any:
        size = 0
        CALL.set(context)
        try:
            if gate is not None and len(data) > SMALL:
                gate.enter(len(data))
                size = len(data)
            return await answer(_parsed(method, data))
        except Exception as error:  # noqa: BLE001  # every failure becomes a status
            await abort(context, error)
        finally:
            if gate is not None and size:
                gate.leave(size)

    return call


def _streaming(
    answer: Callable[[Any], AsyncIterator[Any]], method: Method | None = None
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    """`method`: of one request, which comes as bytes."""

    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for message in answer(request if method is None else _parsed(method, request)):
                yield message
        except Exception as error:  # noqa: BLE001  # every failure becomes a status
            await abort(context, error)

    return call


def _parsed(method: Method, data: bytes) -> Any:
    try:
        return method.request.FromString(data)
    except DecodeError:
        raise invalid(f"the bytes are no {method.request.DESCRIPTOR.full_name}") from None
