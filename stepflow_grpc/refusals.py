"""Calls that are refused: with which status, which words and which details."""

import logging
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.message import DecodeError

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
from stepflow_grpc.details import STORE_UNAVAILABLE, bad_request, debug_info, error_info, missing, short, trailers
from stepflow_grpc.http2.methods import Ended
from stepflow_grpc.queues.records import QueueFull
from stepflow_grpc.wire import UnfitError

logger = logging.getLogger("stepflow.server")

Code = grpc.StatusCode

STORE_AWAY = error_info(STORE_UNAVAILABLE)


class CallError(StepflowError):
    """A call that is refused, with the status that its caller gets.

    Args:
        detail: a message of `google.rpc` that says it in fields.
        retry_after_s: when the caller may come again.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, *, detail: Any = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


def invalid(message: str, field: str = "") -> CallError:
    return CallError(Code.INVALID_ARGUMENT, message, detail=bad_request(short(message), field))


def not_found(kind: str, id: str) -> CallError:
    return CallError(Code.NOT_FOUND, f"{kind} '{id}' not found", detail=missing(kind, id))


def full(queue: QueueFull) -> CallError:
    detail = error_info("QUEUE_FULL", queue=queue.queue, length=str(queue.length), limit=str(queue.limit))
    return CallError(Code.RESOURCE_EXHAUSTED, str(queue), detail=detail, retry_after_s=queue.retry_after_s)


def run_id_of(text: str) -> RunId:
    """Raises: CallError, where the text is no id."""
    try:
        return str(UUID(text))
    except ValueError:
        raise invalid(f"{short(text)!r} is no run id: it has to be a UUID", "run_id") from None


def refusal_of(error: Exception) -> CallError:
    """What a caller is told of a failure. What it can't mend is logged, and told without the reason."""
    match error:
        case CallError():
            return error
        case RunNotFoundError():
            return not_found("run", error.run_id)
        case BlobNotFoundError():
            return not_found("blob", error.blob_id)
        case RunActiveError():
            return CallError(Code.FAILED_PRECONDITION, str(error), detail=error_info("RUN_NOT_DELETABLE"))
        case StoreUnavailableError():
            return CallError(Code.UNAVAILABLE, str(error), detail=STORE_AWAY)
        case EngineClosedError():
            return CallError(Code.UNAVAILABLE, str(error))
        case DecodeError():  # of a stream; a request alone is named
            return invalid("the bytes are no message of this method")
        case UnfitError():
            return CallError(Code.FAILED_PRECONDITION, f"what was asked for can't be told: {error}")
        case RecursionError():
            return invalid("what was sent, or what it names, is nested too deeply")
        case ProblemsError() | ValueError() | TypeError():
            return invalid(str(error))
        case _:
            logger.exception("a call failed", exc_info=error)
            what = type(error).__name__
            return CallError(Code.INTERNAL, f"internal error: {what}", detail=debug_info(what))


def ended(error: Exception) -> Ended:
    """How a call that failed ends: with a status, and with its details."""
    refusal = refusal_of(error)
    text = short(str(refusal))
    code: int = refusal.code.value[0]
    return Ended(code, text, trailers(refusal.code, text, refusal.detail, refusal.retry_after_s))
