"""What goes beside the status of a call that fails: `grpc-status-details-bin`, and when to come again."""

from collections.abc import Iterable
from math import ceil
from typing import Any, TypeAlias
from urllib.parse import quote

import grpc

from stepflow_grpc.messages import message

DOMAIN = "stepflow.io"

LONGEST = 2_000
"""Bytes of a message on the wire. It goes twice into the trailers, of which most clients take 8 KiB in all."""

STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
"""The reason of an UNAVAILABLE that the server itself says: it is there, and its store is not."""

Trailers: TypeAlias = tuple[tuple[str, str | bytes], ...]

_Status = message("google.rpc.Status")
_BadRequest = message("google.rpc.BadRequest")
_DebugInfo = message("google.rpc.DebugInfo")
_ErrorInfo = message("google.rpc.ErrorInfo")
_RetryInfo = message("google.rpc.RetryInfo")


def bad_request(description: str, field: str = "") -> Any:
    found = _BadRequest()
    found.field_violations.add(field=field, description=description)
    return found


def error_info(reason: str, **metadata: str) -> Any:
    return _ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)


def missing(kind: str, id: str) -> Any:
    return error_info("RESOURCE_NOT_FOUND", resource_type=kind, resource_id=short(id))


def debug_info(detail: str) -> Any:
    return _DebugInfo(detail=detail)


def retry_info(after_s: float) -> Any:
    found = _RetryInfo()
    found.retry_delay.seconds = int(after_s)
    found.retry_delay.nanos = int(after_s % 1 * 1e9)
    return found


def short(text: str) -> str:
    """The text, or as much of it as fits into a header beside other things."""
    if len(text) * 3 <= LONGEST or len(quote(text)) <= LONGEST:
        return text
    kept = text[: LONGEST - 2]
    while len(quote(kept)) > LONGEST - 10:
        kept = kept[: len(kept) * 3 // 4]
    return f"{kept} …"


def trailers(code: grpc.StatusCode, text: str, detail: Any, retry_after_s: float | None) -> Trailers:
    """What goes behind a status, for those who read it."""
    status = _Status(code=code.value[0], message=text)
    for found in (detail, None if retry_after_s is None else retry_info(retry_after_s)):
        if found is not None:
            packed = status.details.add()
            packed.type_url = f"type.googleapis.com/{found.DESCRIPTOR.full_name}"
            packed.value = found.SerializeToString()
    hint = () if retry_after_s is None else (("retry-after", str(ceil(retry_after_s))),)
    return (("grpc-status-details-bin", status.SerializeToString()), *hint)


def read_details(metadata: Iterable[tuple[str, Any]] | None) -> list[Any]:
    """The details in the trailers of a call that failed, those of them that are known here."""
    found: list[Any] = []
    for key, value in metadata or ():
        if key == "grpc-status-details-bin":
            for packed in _Status.FromString(value).details:
                known = _KNOWN.get(packed.type_url.rpartition("/")[2])
                if known is not None:
                    found.append(known.FromString(packed.value))
    return found


_KNOWN = {kind.DESCRIPTOR.full_name: kind for kind in (_BadRequest, _DebugInfo, _ErrorInfo, _RetryInfo)}
