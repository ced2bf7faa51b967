"""Who may call: those that show a token, where the server has any."""

import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import grpc

from stepflow_grpc.details import error_info
from stepflow_grpc.refusals import CallError, Code, abort

OPEN = ("grpc.health.v1.Health", "stepflow.v1.HealthService")
"""The services that answer everybody, so that probes need no token."""


class Tokens(Protocol):
    """The tokens of which callers have to show one. As many as there are, so that one can replace another."""

    def tokens(self) -> Sequence[str]: ...

    def environment(self) -> dict[str, str]:
        """The variables that let a child process in."""
        ...


class FixedTokens:
    """They stay as they are, as long as the server runs."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tuple(tokens)

    def tokens(self) -> Sequence[str]:
        return self._tokens

    def environment(self) -> dict[str, str]:
        return {"STEPFLOW_TOKEN": self._tokens[0]}


def refusal(authorization: str | bytes | None, tokens: Tokens) -> CallError | None:
    """Why a caller that shows this is not let in; None: it is. Takes as long for a token that is nearly right."""
    if authorization is None:
        text = "this server wants a token: set STEPFLOW_TOKEN, or STEPFLOW_TOKEN_FILE"
        return CallError(Code.UNAUTHENTICATED, text, detail=error_info("TOKEN_MISSING"))
    shown = authorization.encode("utf-8", "replace") if isinstance(authorization, str) else authorization
    scheme, _, token = shown.partition(b" ")
    matches = [hmac.compare_digest(token, known.encode()) for known in tokens.tokens()]
    if scheme.lower() == b"bearer" and any(matches):
        return None
    text = "the token is none of this server's: set STEPFLOW_TOKEN to one of them"
    return CallError(Code.UNAUTHENTICATED, text, detail=error_info("TOKEN_INVALID"))


class Guard(grpc.GenericRpcHandler):
    """The services of a server by name, behind its tokens.

    Args:
        tokens: None lets everybody in.
        open: names of services that ask for no token.
    """

    def __init__(
        self, services: Iterable[grpc.ServiceRpcHandler], tokens: Tokens | None, *, open: Collection[str] = OPEN
    ) -> None:
        self._services: Mapping[str, grpc.ServiceRpcHandler] = {found.service_name(): found for found in services}
        self._tokens = tokens
        self._open = frozenset(open)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._services)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        name = handler_call_details.method[1:].partition("/")[0]
        found = self._services.get(name)
        if found is None:
            return None
        if self._tokens is not None and name not in self._open:
            shown = dict(handler_call_details.invocation_metadata or ()).get("authorization")
            refused = refusal(shown, self._tokens)
            if refused is not None:
                return _refusing(refused)
        return found.service(handler_call_details)


def _refusing(refused: CallError) -> "grpc.RpcMethodHandler[Any, Any]":
    """Answers any method. As one that takes a stream, so that nothing is read first."""

    async def call(requests: Any, context: Any) -> None:
        await abort(context, refused)

    return grpc.stream_stream_rpc_method_handler(call)
