"""From a service's methods to gRPC handlers, and from exceptions to status codes."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Never
from uuid import UUID

import grpc
import grpc.aio

from stepflow.errors import (
    BlobNotFoundError,
    EngineClosedError,
    ProblemsError,
    RunActiveError,
    RunNotFoundError,
    StepflowError,
    StoreUnavailableError,
)
from stepflow.records import RunId
from stepflow_grpc.messages import PACKAGE, Method, methods

logger = logging.getLogger("stepflow.server")

Code = grpc.StatusCode


class CallError(StepflowError):
    """A call that is refused, with the status that its caller gets."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> CallError:
    return CallError(Code.INVALID_ARGUMENT, message)


def not_found(kind: str, id: str) -> CallError:
    return CallError(Code.NOT_FOUND, f"{kind} '{id}' not found")


def run_id_of(text: str) -> RunId:
    """Raises: CallError, where the text is no id."""
    try:
        return str(UUID(text))
    except ValueError:
        raise invalid(f"{text!r} is no run id: it has to be a UUID") from None


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """What a caller is told of a failure. What it can't mend is logged, and told without the reason."""
    match error:
        case CallError():
            return error.code, str(error)
        case RunNotFoundError():
            return Code.NOT_FOUND, f"run '{error.run_id}' not found"
        case BlobNotFoundError():
            return Code.NOT_FOUND, f"blob '{error.blob_id}' not found"
        case ProblemsError():
            return Code.INVALID_ARGUMENT, str(error)
        case RunActiveError():
            return Code.FAILED_PRECONDITION, str(error)
        case StoreUnavailableError() | EngineClosedError():
            return Code.UNAVAILABLE, str(error)
        case ValueError() | TypeError():
            return Code.INVALID_ARGUMENT, str(error)
        case _:
            logger.exception("a call failed", exc_info=error)
            return Code.INTERNAL, f"internal error: {type(error).__name__}"


async def _abort(context: Any, error: Exception) -> Never:
    code, message = status_of(error)
    await context.abort(code, message)
    raise AssertionError("abort raises")


def handlers(service: str, implementation: object, package: str = PACKAGE) -> grpc.GenericRpcHandler:
    """The methods of a service, each answered by the implementation's method of the same name.

    A unary one is a coroutine of the request, a streaming one an async generator; where the request is a stream too,
    it is given as an async iterator.
    """
    found = {
        name: _handler(method, getattr(implementation, name))
        for name, method in methods(service, package).items()
        if hasattr(implementation, name)
    }
    return grpc.method_handlers_generic_handler(f"{package}.{service}", found)


def _handler(method: Method, answer: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
    shape = {
        "request_deserializer": method.request.FromString,
        "response_serializer": method.response.SerializeToString,
    }
    if method.takes_stream:
        return grpc.stream_stream_rpc_method_handler(_streaming(answer), **shape)
    if method.streams:
        return grpc.unary_stream_rpc_method_handler(_streaming(answer), **shape)
    return grpc.unary_unary_rpc_method_handler(_unary(answer), **shape)


def _unary(answer: Callable[[Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await answer(request)
        except Exception as error:  # noqa: BLE001  # every failure becomes a status
            await _abort(context, error)

    return call


def _streaming(answer: Callable[[Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for message in answer(request):
                yield message
        except Exception as error:  # noqa: BLE001  # every failure becomes a status
            await _abort(context, error)

    return call
