"""From what a component raised to the failure of its step."""

import sys
import traceback
from types import TracebackType

from stepflow.errors import BlobNotFoundError, ComponentError, RetryAfter, StoreUnavailableError
from stepflow.plugins.normal import NotJsonError, normalise
from stepflow.records import ErrorCode, Failed, Json

_OURS = ("stepflow.plugins", "anyio", "trio", "outcome", "asyncio", "concurrent")
_MAX_FRAMES = 20
_MAX_TRACEBACK = 4_000
_MAX_MESSAGE = 10_000


def failed_by(error: BaseException) -> Failed:
    """The failure that an exception stands for.

    Its data hold `exception_type`, `details` and `cause` where there are some, and the `traceback` from the user's
    code on where the exception was not raised on purpose.
    """
    error = only_leaf(error)
    message = _message(error)
    data: dict[str, Json] = {"exception_type": type(error).__name__}
    if isinstance(error, ComponentError):
        if error.data is not None:
            data["details"] = _details(error.data)
    else:
        trace = _traceback(error)
        if trace:
            data["traceback"] = trace
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        data["cause"] = {"exception_type": type(cause).__name__, "message": _message(cause)}
    delay_s = error.delay_s if isinstance(error, RetryAfter) else None
    return Failed(code_of(error), message, data, retry_after_s=delay_s)


def code_of(error: BaseException) -> ErrorCode:
    """Which code stands for an exception."""
    match error:
        case ComponentError():
            return error.code
        case TypeError():
            return ErrorCode.INVALID_INPUT
        case OSError() | BlobNotFoundError() | StoreUnavailableError():  # ConnectionError, TimeoutError are OSErrors
            return ErrorCode.RESOURCE_UNAVAILABLE
        case _:
            return ErrorCode.COMPONENT_FAILED


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception that is no `Exception` has to be let through: a cancellation from outside, or Ctrl-C.

    On asyncio a coroutine can raise CancelledError although nobody cancelled it, by awaiting a task that was.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(not isinstance(part, Exception) and is_cancellation(part) for part in error.exceptions)
    if isinstance(error, SystemExit):
        return False
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(error, asyncio.CancelledError):
        return True
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def only_leaf(error: BaseException) -> BaseException:
    """The one exception that a task group wrapped; the group itself where there are several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - the failure is recorded, by the name of its class
        text = f"{type(error).__name__}, whose text cannot be made: {type(broken).__name__}"
    if isinstance(error, SystemExit):
        text = f"the component called exit({text})"
    return _clean(text or type(error).__name__, _MAX_MESSAGE)


def _clean(text: str, limit: int) -> str:
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text):,} characters)"
    return text.encode("utf-8", "backslashreplace").decode()


def _details(data: object) -> Json:
    try:
        return normalise(data)
    except NotJsonError:
        return _clean(repr(data), _MAX_MESSAGE)


def _traceback(error: BaseException) -> str:
    frames = traceback.extract_tb(_users(error.__traceback__), limit=-_MAX_FRAMES)
    text = "".join(traceback.format_list(frames)).rstrip()
    return _clean(text[-_MAX_TRACEBACK:], _MAX_TRACEBACK)


def _users(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without our own frames at its top."""
    while trace is not None and _is_ours(trace.tb_frame.f_globals.get("__name__", "")):
        trace = trace.tb_next
    return trace


def _is_ours(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _OURS)
