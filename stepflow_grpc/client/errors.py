"""What a client raises, and how an answer of gRPC becomes an exception of the core.

StepflowError
├── ServerUnavailableError  nobody answers at the address
│   ├── CallTimeoutError    or not in time
│   └── ServerStoreError    the server is there, and its store does not answer it
├── ServerBusyError         the server takes nothing more for the moment
├── TooLargeError           what is to be sent does not fit
├── NotAllowedError         the server wants a token, or a certificate, that was not shown
├── NotServedError          the server has no such call, or takes no such option
├── CallFailedError         any other refusal
└── BlobNotFoundError
    └── FlowNotFoundError   no flow has this id
"""

import re
from collections.abc import Sequence
from typing import Any

import grpc

from stepflow.errors import (
    BlobNotFoundError,
    FlowInvalidError,
    InputInvalidError,
    Problem,
    RunActiveError,
    RunNotFoundError,
    StepflowError,
)
from stepflow_grpc.absence import START, absence
from stepflow_grpc.address import Address
from stepflow_grpc.details import STORE_UNAVAILABLE, read_details

Code = grpc.StatusCode

_MISSING = re.compile(r"(run|flow|blob) '([^']*)' not found")
_PROBLEM = re.compile(r"(?:error|warning)(?: (\d+))?: (.*)")
_SENT = re.compile(r"larger than max \((\d+) vs\. (\d+)\)")


class ServerUnavailableError(StepflowError):
    """Nobody answers at the address. What was asked for may or may not have been done."""

    def __init__(self, address: Address | str, reason: str, remedy: str = START) -> None:
        super().__init__(f"no server answers at {address}: {reason}; {remedy}")
        self.address = str(address)
        self.reason = reason
        self.remedy = remedy

    def __reduce__(self) -> "tuple[type[ServerUnavailableError], tuple[str, str, str]]":
        return type(self), (self.address, self.reason, self.remedy)


class CallTimeoutError(ServerUnavailableError):
    """The server did not answer a call in time. What was asked for may or may not have been done."""

    def __init__(self, address: Address | str, method: str) -> None:
        StepflowError.__init__(self, f"the server at {address} did not answer {method} in time")
        self.address = str(address)
        self.method = method
        self.reason, self.remedy = f"{method} was not answered in time", "try again later"

    def __reduce__(self) -> "tuple[type[CallTimeoutError], tuple[str, str]]":  # type: ignore[override]
        return type(self), (self.address, self.method)


class ServerStoreError(ServerUnavailableError):
    """The server has no answer from its store. What was asked for may or may not have been done."""

    def __init__(self, address: Address | str, reason: str) -> None:
        StepflowError.__init__(self, f"the server at {address} has no answer from its store: {reason}")
        self.address = str(address)
        self.reason, self.remedy = reason, "see that its store runs and can be reached"

    def __reduce__(self) -> "tuple[type[ServerStoreError], tuple[str, str]]":  # type: ignore[override]
        return type(self), (self.address, self.reason)


class ServerBusyError(StepflowError):
    """The server takes nothing more for the moment; nothing was done."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooLargeError(StepflowError):
    """Something does not fit into what the server takes; nothing was done. Sizes are in bytes."""

    def __init__(self, what: str, size: int, limit: int, remedy: str) -> None:
        super().__init__(f"{what} has {shown_size(size)}, and the server takes {shown_size(limit)}: {remedy}")
        self.what = what
        self.size = size
        self.limit = limit
        self.remedy = remedy

    def __reduce__(self) -> "tuple[type[TooLargeError], tuple[str, int, int, str]]":
        return type(self), (self.what, self.size, self.limit, self.remedy)


class NotAllowedError(StepflowError):
    """The server wants to see a token or a certificate."""


class NotServedError(StepflowError):
    """The server has no such call, or takes no such option."""


class CallFailedError(StepflowError):
    """The server refused a call, or failed at it."""

    def __init__(self, method: str, code: str, message: str) -> None:
        super().__init__(f"{method}: {code}: {message}")
        self.method = method
        self.code = code
        self.message = message

    def __reduce__(self) -> "tuple[type[CallFailedError], tuple[str, str, str]]":
        return type(self), (self.method, self.code, self.message)


class FlowNotFoundError(BlobNotFoundError):
    """No flow has this id."""

    def __init__(self, flow_id: str) -> None:
        StepflowError.__init__(self, f"the server has no flow with the id {flow_id}; store it first")
        self.blob_id = flow_id

    @property
    def flow_id(self) -> str:
        return self.blob_id


def shown_size(size: int) -> str:
    return f"{size:,} bytes" if size < 1024**2 else f"{size / 1024**2:,.1f} MiB"


def error_of(
    code: grpc.StatusCode, details: str | None, method: str, address: Address, metadata: Any = None
) -> StepflowError:
    """The exception that a call's status stands for."""
    text = details or ""
    match code:
        case Code.NOT_FOUND if (found := _MISSING.search(text)) is not None:
            return _not_found(found[1], found[2])
        case Code.INVALID_ARGUMENT:
            kind = FlowInvalidError if method == "StoreFlow" else InputInvalidError
            return kind(problems_of(text))
        case Code.FAILED_PRECONDITION if method == "DeleteRun":
            return _active(text)
        case Code.UNAVAILABLE | Code.CANCELLED:
            return _away(text, address, metadata)
        case Code.DEADLINE_EXCEEDED:
            return CallTimeoutError(address, method)
        case Code.RESOURCE_EXHAUSTED:
            return _exhausted(text, metadata)
        case Code.UNAUTHENTICATED | Code.PERMISSION_DENIED:
            remedy = "" if "STEPFLOW_TOKEN" in text else "; set STEPFLOW_TOKEN"
            return NotAllowedError(f"{address} refuses {method}: {text}{remedy}")
        case Code.UNIMPLEMENTED:
            return NotServedError(f"the server at {address} has no {method}")
        case _:
            return CallFailedError(method, code.name, text)


def _away(text: str, address: Address, metadata: Any) -> StepflowError:
    if STORE_UNAVAILABLE in (getattr(detail, "reason", "") for detail in read_details(metadata)):
        return ServerStoreError(address, text)
    found = absence(text)
    if found is not None:
        return ServerUnavailableError(address, found.reason, found.remedy)
    return ServerUnavailableError(address, text or "it left")


def _not_found(kind: str, id: str) -> StepflowError:
    if kind == "run":
        return RunNotFoundError(id)
    return FlowNotFoundError(id) if kind == "flow" else BlobNotFoundError(id)


def _active(text: str) -> StepflowError:
    found = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", text)
    return RunActiveError(found[0] if found else "", "only the record of one that has can be deleted")


def _exhausted(text: str, metadata: Any) -> StepflowError:
    found = _SENT.search(text)
    if found is not None:
        return TooLargeError("the message", int(found[1]), int(found[2]), "send less at once, or put it into blobs")
    return ServerBusyError(text, retry_after_s=_retry_after(metadata))


def _retry_after(metadata: Any) -> float | None:
    """After how many seconds the server wants to be asked again, where it says so."""
    for detail in read_details(metadata):
        if detail.DESCRIPTOR.name == "RetryInfo":
            seconds: float = detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9
            return seconds
    return None


def problems_of(text: str) -> Sequence[Problem]:
    """The problems that a refusal tells, one a line as `Problem` writes them; other lines are told as they are."""
    found = []
    for line in text.splitlines() or [""]:
        told = _PROBLEM.fullmatch(line)
        if told is None:
            found.append(Problem(message=line))
        else:
            found.append(Problem(message=told[2], code=int(told[1]) if told[1] else None))
    return found
