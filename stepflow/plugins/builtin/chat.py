"""Sends a chat completion request over HTTP, in a thread."""

import http.client
import ssl
import urllib.error
import urllib.request
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import partial

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import RunVar

from stepflow.plugins.builtin.chat_call import Call
from stepflow.protocols import Clock
from stepflow.records import ErrorCode, Failed, Json, Outcome, Succeeded

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_CALLS = 100  # at a time; each holds a thread

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("stepflow_chat_limiter")


class _Reply(msgspec.Struct, frozen=True):
    status: int
    content: bytes
    retry_after: str | None
    location: str | None


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would send the key along to the other host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: object, code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


async def post(call: Call, clock: Clock) -> Outcome:
    """The answer's JSON, or why there is none. The key is in no message."""
    try:
        with clock.busy():
            reply = await anyio.to_thread.run_sync(
                partial(_send, call), abandon_on_cancel=True, limiter=_calls_at_a_time()
            )
    except (OSError, http.client.HTTPException) as error:
        return Failed(ErrorCode.RESOURCE_UNAVAILABLE, f"{call.url} did not answer: {_reason(error)}")
    if reply.status != 200:
        return _refusal(reply, call, clock.now())
    try:
        return Succeeded(msgspec.json.decode(reply.content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Failed(ErrorCode.COMPONENT_FAILED, f"{call.url} did not answer with JSON: {error}")


def retry_after_s(value: str | None, now: float) -> float | None:
    """The delay that a Retry-After header asks for: a number of seconds, or a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def _calls_at_a_time() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(MAX_CALLS)
        _limiter.set(limiter)
        return limiter


def _send(call: Call) -> _Reply:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "stepflow"}
    request = urllib.request.Request(call.url, call.body, headers, method="POST")
    if call.key is not None:
        request.add_unredirected_header("Authorization", f"Bearer {call.key}")
    opener = urllib.request.build_opener(_StayHere)
    try:
        with opener.open(request, timeout=call.timeout_s) as response:
            return _reply(response.status, response)
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, error)


def _reply(status: int, response: http.client.HTTPResponse | urllib.error.HTTPError) -> _Reply:
    content = response.read(MAX_ANSWER_BYTES + 1)
    if len(content) > MAX_ANSWER_BYTES:
        raise http.client.HTTPException(f"more than {MAX_ANSWER_BYTES:,} bytes came")
    return _Reply(status, content, response.headers.get("Retry-After"), response.headers.get("Location"))


def _refusal(reply: _Reply, call: Call, now: float) -> Failed:
    status = reply.status
    message = f"{call.url} answered {status}: {_explanation(reply)}"
    if call.key:
        message = message.replace(call.key, "[REDACTED]")
    data: Json = {"status": status}
    if status in (408, 409, 425, 429) or status >= 500:
        delay = retry_after_s(reply.retry_after, now)
        return Failed(ErrorCode.RESOURCE_UNAVAILABLE, message, data, retry_after_s=delay)
    if status in (401, 402, 403) or status < 400:
        return Failed(ErrorCode.COMPONENT_FAILED, message, data, may_retry=False)
    return Failed(ErrorCode.INVALID_INPUT, message, data)


def _explanation(reply: _Reply) -> str:
    """The service's own words, where there are any."""
    if 300 <= reply.status < 400:
        return f"it has moved to {reply.location}; redirects are not followed, so set the base URL to where it is"
    try:
        body = msgspec.json.decode(reply.content)
        words = body["error"]["message"] if isinstance(body["error"], dict) else body["error"]
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, RecursionError):
        words = reply.content.decode(errors="replace")
    return str(words).strip()[:1000] or "without a word"


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message})"
    return str(cause) or type(cause).__name__
